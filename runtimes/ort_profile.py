"""What ONNX Runtime really executes, node by node: after its fusions, in which types, and in what time.

The names that onnxruntime 1.31 gives to fused nodes: a QDQ group keeps its operator's name (``conv`` runs as a
QLinearConv named ``conv``); a layout change adds ``_token_N`` and names the output like the node, or adds ``_nchwc`` to
the name of the *output*; other fusions add ``/NameOfFusion/`` or have a name of their own. A fused node's outputs keep
the names of the last node merged into it wherever the layout stays.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from runtimes.base import run
from runtimes.ort import OrtRuntime
from runtimes.session_settings import SessionSettings, stored_in

WARM_UP_RUNS = 3
CONVERSIONS = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "ReorderInput", "ReorderOutput"}
)
"""Operators that only change a number's type or layout."""
_INT8_KERNELS = {
    "QGemm", "QAttention", "MatMulInteger", "MatMulIntegerToFloat", "MatMulInteger16", "ConvInteger",
    "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QuantizeBFP",
}  # fmt: skip
_EVENT = "_kernel_time"
_FLOATS = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64"}


@dataclass(frozen=True, kw_only=True)
class NodeTime:
    """One executed node: ``op_type`` after fusion, its time in a run, and its share (0 to 1) of all nodes' time.

    ``mean_us`` is the mean of the middle half of the runs: another process's turn on the core falls into the rest.
    ``precision`` is int8, int4, fp32, fp16, ..., or the type of its output where that is no floating-point number.
    ``inputs`` are activations, ``constants`` are stored in the file.
    """

    name: str
    op_type: str
    provider: str
    precision: str
    mean_us: float
    share: float
    inputs: tuple[str, ...]
    constants: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Unfused:
    """A node of a QDQ model that did not become part of an int8 kernel, the time it takes, and why it is listed."""

    name: str
    op_type: str
    mean_us: float
    share: float
    why: str


def time_shares(path: Path, feeds: Mapping[str, npt.NDArray[np.generic]], *, threads: int, runs: int) -> list[NodeTime]:
    """Run ``path`` on the CPU ``runs`` times under ONNX Runtime's profiler; its nodes in the order of the graph.

    Warm-up runs are left out. The profile and the optimized model live in a temporary folder that is removed. Raises
    NotLoadable, BadFeed or RunFailed. The profiler adds about a microsecond a node: shares of a net whose nodes take
    not much more are blurred.
    """
    plain = OrtRuntime(path, threads=threads)  # says what is wrong with the model or the feeds
    plain.open()
    run(plain, feeds)
    plain.close()
    with tempfile.TemporaryDirectory(prefix="nnx-profile-") as folder:
        optimized = Path(folder) / "optimized.onnx"
        settings = stored_in(path) or SessionSettings()
        options = settings.options(threads=threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        options.optimized_model_filepath = str(optimized)
        session = onnxruntime.InferenceSession(
            str(_with_names(path, Path(folder))), options, providers=["CPUExecutionProvider"],
            disabled_optimizers=list(settings.disabled_optimizers),
        )  # fmt: skip
        for _ in range(WARM_UP_RUNS + runs):
            session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        del session
        graph = onnx.load(optimized, load_external_data=False).graph
    times = list(_times(graph, _by_name(events)))
    total = sum(node.mean_us for node in times) or 1.0
    return [replace(node, share=node.mean_us / total) for node in times]


def unfused(nodes: Sequence[NodeTime]) -> list[Unfused]:
    """The nodes of a QDQ model's profile that the int8 kernels left over, the slowest first.

    They are float operators on quantized weights or between DequantizeLinear and QuantizeLinear, and the Q and DQ nodes
    inside the graph; those at its inputs and outputs have to be. Empty for a model without Q and DQ.
    """
    made_by = {name: node for node in nodes for name in node.outputs}
    readers: dict[str, list[NodeTime]] = {}
    for node in nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    found = []
    for node in nodes:
        sources = [made_by[name] for name in node.inputs if name in made_by]
        users = [user for name in node.outputs for user in readers.get(name, [])]
        if why := _why_unfused(node, sources, users):
            found.append(Unfused(name=node.name, op_type=node.op_type, mean_us=node.mean_us, share=node.share, why=why))
    return sorted(found, key=lambda node: -node.mean_us)


def _why_unfused(node: NodeTime, sources: Sequence[NodeTime], users: Sequence[NodeTime]) -> str | None:
    dequantized = [source for source in sources if source.op_type == "DequantizeLinear"]
    if node.op_type == "DequantizeLinear":
        if not node.inputs:
            return "its weights are dequantized in every run"
        return "its result goes on in float inside the graph" if users else None
    if node.op_type == "QuantizeLinear":
        return "it quantizes again inside the graph" if sources else None
    if node.op_type in CONVERSIONS or node.precision not in _FLOATS.values():
        return None
    if any(not source.inputs for source in dequantized):
        return f"it runs in {node.precision} on quantized weights"
    if dequantized and any(user.op_type == "QuantizeLinear" for user in users):
        return f"it runs in {node.precision} between DequantizeLinear and QuantizeLinear"
    return None


def _with_names(path: Path, folder: Path) -> Path:
    """``path``, or a copy in which every node has a name of its own: the profile tells nodes apart by it."""
    model = onnx.load(path, load_external_data=False)
    names = [node.name for node in model.graph.node]
    if "" not in names and len(set(names)) == len(names):
        return path
    model = onnx.load(path)
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = next((name for name in node.output if name and name not in taken), f"{node.op_type}_{index}")
        taken.add(node.name)
    named = folder / "named.onnx"
    onnx.save(model, named)
    return named


def _by_name(events: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Node name -> its kernel events in the order of the runs, warm-up left out."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_EVENT):
            found.setdefault(event["name"].removesuffix(_EVENT), []).append(event)
    return {name: measured[WARM_UP_RUNS:] for name, measured in found.items()}


def _times(graph: onnx.GraphProto, events: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[NodeTime]:
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        measured = events.get(node.name)
        if not measured:  # inside a constant subgraph, or never reached
            continue
        arguments = measured[0]["args"]
        yield NodeTime(
            name=node.name,
            op_type=node.op_type,
            provider=arguments["provider"],
            precision=_precision(node, arguments),
            mean_us=_middle_mean([event["dur"] for event in measured]),
            share=0.0,
            inputs=tuple(name for name in node.input if name and name not in constants),
            constants=tuple(name for name in node.input if name in constants),
            outputs=tuple(name for name in node.output if name),
        )


def _middle_mean(values: Sequence[float]) -> float:
    quarter = len(values) // 4
    middle = sorted(values)[quarter : len(values) - quarter]
    return sum(middle) / len(middle)


def _precision(node: onnx.NodeProto, arguments: Mapping[str, Any]) -> str:
    """What ``node`` computes in. Weights that a kernel packed for itself are missing from the types in the profile."""
    read = [kind for entry in arguments.get("input_type_shape", ()) for kind in entry]
    made = [kind for entry in arguments.get("output_type_shape", ()) for kind in entry]
    if node.op_type == "MatMulNBits":
        return f"int{next((attribute.i for attribute in node.attribute if attribute.name == 'bits'), 4)}"
    if node.op_type not in CONVERSIONS and (
        node.op_type in _INT8_KERNELS or node.op_type.startswith("QLinear") or {"int8", "uint8"} & set(read)
    ):
        return "int8"
    kind = next((kind for kind in (*made, *read) if kind in _FLOATS), made[0] if made else "")
    return _FLOATS.get(kind, kind)

"""What ONNX Runtime really executes, node by node: after its fusions, in which types, and in what time.

The names that onnxruntime 1.31 gives to fused nodes: a QDQ group keeps its operator's name (``conv`` runs as a
QLinearConv named ``conv``); a layout change adds ``_token_N`` and names the output like the node, or adds ``_nchwc`` to
the name of the *output*; other fusions add ``/NameOfFusion/`` or have a name of their own. A fused node's outputs keep
the names of the last node merged into it wherever the layout stays. Names and operators, types, times and providers
come from the profile's events; what connects the nodes comes from the optimized graph.
"""

import importlib.util
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from runtimes import ort_device
from runtimes.base import run
from runtimes.node_time import CONVERSIONS as CONVERSIONS
from runtimes.node_time import WARM_UP_RUNS, is_compiled, middle_mean, require_runs, with_shares
from runtimes.node_time import NodeTime as NodeTime
from runtimes.node_time import Unfused as Unfused
from runtimes.ort import OrtRuntime
from runtimes.ort_session import CPU, RUN_ERRORS, chosen_settings, run_failed, start
from runtimes.registry import Options
from runtimes.session_settings import SessionSettings

if TYPE_CHECKING:
    from runtimes.optimized_graph import GraphNode, OptimizedGraph

_SAVED_BY = frozenset({CPU, "CUDAExecutionProvider"})
"""Providers whose optimized graph can be saved. Those that compile whole subgraphs, such as OpenVINO, refuse."""
_INT8_KERNELS = {
    "QGemm", "QAttention", "MatMulInteger", "MatMulIntegerToFloat", "MatMulInteger16", "ConvInteger",
    "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QuantizeBFP",
}  # fmt: skip
_EVENT = "_kernel_time"
_INSERTED_CAST = ("InsertedPrecisionFreeCast_", "InsertedCast_")
"""How the Casts are named that ONNX Runtime puts around what a provider has no kernel for; the second before 1.16."""
_WITH_SUBGRAPHS = frozenset({"If", "Loop", "Scan", "BeamSearch", "GreedySearch", "Sampling"})
_FLOATS = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64"}
_Events = Sequence[Mapping[str, Any]]


def time_shares(
    path: Path,
    feeds: Mapping[str, npt.NDArray[np.generic]],
    *,
    threads: int,
    runs: int,
    provider: str = CPU,
    options: Options = (),
    settings: SessionSettings | None = None,
) -> list[NodeTime]:
    """Run ``path`` ``runs`` times under ONNX Runtime's profiler; its nodes in the order in which they run.

    ``provider`` is named as onnxruntime names it and takes its own ``options``; without ``settings`` the CPU uses those
    stored in the file. Warm-up runs are left out, CUDA graphs are not used; what runs inside an If or a Loop counts as
    that node's time. Nodes run one after the other, whatever the settings say: side by side their times overlap, and
    are no shares of a whole. The profile and the optimized model live in a temporary folder that is removed. Raises
    NotLoadable, ProviderUnavailable, BadProviderOption, BadFeed, RunFailed, and ValueError for less than one run.

    The profiler adds about a microsecond a node: shares of a net whose nodes take not much more are blurred. A node on
    a GPU is timed on the host: the time to launch its kernels, and where it waits for the device, for those before it.
    Without the onnx package, and with a provider that compiles subgraphs, nodes are not connected: no ``inputs``,
    ``constants`` and ``outputs``.
    """
    require_runs(runs)
    # first without the profiler: it says what is wrong with the model or the feeds
    plain = OrtRuntime(path, provider=provider, threads=threads, settings=settings, options=options)
    plain.open()
    run(plain, feeds)
    plain.close()
    chosen = replace(chosen_settings(path, provider, settings), execution_mode="sequential")
    connected = provider in _SAVED_BY and importlib.util.find_spec("onnx") is not None
    with tempfile.TemporaryDirectory(prefix="nnx-profile-") as name:
        folder = Path(name)
        session_options = chosen.options(threads=threads)
        session_options.enable_profiling = True
        session_options.profile_file_prefix = str(folder / "profile")
        if connected:
            from runtimes.optimized_graph import OptimizedGraph, with_names

            path = with_names(path, folder)
            _save_optimized(session_options, folder / "optimized.onnx")
        session = start(path, session_options, provider=provider, options=options, settings=chosen, threads=threads)
        no_graph = ort_device.run_options(ort_device.NO_GRAPH)  # replayed, it would show no node
        try:
            for _ in range(WARM_UP_RUNS + runs):
                session.run(None, dict(feeds), no_graph)
        except RUN_ERRORS as error:
            raise run_failed(error) from error
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        del session
        graph = OptimizedGraph(folder / "optimized.onnx") if connected else None
    return with_shares(list(_times(events, graph, WARM_UP_RUNS + runs)))


def left_over(path: Path) -> list[Unfused]:
    """:func:`unfused` of ``path`` as the CPU provider would run it, told by its optimized graph without a run.

    Raises NotLoadable.
    """
    from runtimes.optimized_graph import nodes_in

    settings = chosen_settings(path, CPU, None)
    with tempfile.TemporaryDirectory(prefix="nnx-optimized-") as name:
        session_options = settings.options(threads=1)
        _save_optimized(session_options, Path(name) / "optimized.onnx")
        start(path, session_options, settings=settings)
        nodes = nodes_in(Path(name) / "optimized.onnx")
    return unfused(
        [
            NodeTime(
                name=node.name, op_type=node.op_type, provider=CPU, mean_us=0.0, share=0.0, inputs=node.inputs,
                constants=node.constants, outputs=node.outputs, precision="int8" if _is_int8(node.op_type) else "fp32",
            )
            for node in nodes
        ]
    )  # fmt: skip


def _is_int8(op_type: str) -> bool:
    return op_type in _INT8_KERNELS or op_type.startswith("QLinear")


def unfused(nodes: Sequence[NodeTime]) -> list[Unfused]:
    """The nodes of a QDQ model's profile that the int8 kernels left over, the slowest first.

    They are float operators on quantized weights or between DequantizeLinear and QuantizeLinear, and the Q and DQ nodes
    inside the graph; those at its inputs and outputs have to be. Empty for a model without Q and DQ, and for nodes that
    are not connected: what lies inside cannot be told then.
    """
    if not any(node.outputs for node in nodes):
        return []
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


def _save_optimized(options: onnxruntime.SessionOptions, path: Path) -> None:
    """Have the optimized graph written to ``path``, its weights beside it: a single file ends at 2 GiB."""
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", f"{path.stem}.bin")
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")


def _times(events: _Events, graph: "OptimizedGraph | None", runs: int) -> Iterator[NodeTime]:
    """The nodes that ran in every one of the ``runs``, warm-up included: what runs inside another does not have to."""
    for (name, _), measured in _by_node(events).items():
        if len(measured) < runs:
            continue
        arguments = measured[0]["args"]
        op_type = arguments["op_name"]
        node = graph.take(name, op_type) if graph else None
        yield NodeTime(
            name=name,
            op_type=op_type,
            provider=arguments["provider"],
            precision=_precision(name, arguments, node),
            mean_us=middle_mean([event["dur"] for event in measured[WARM_UP_RUNS:]]),
            share=0.0,
            inputs=node.inputs if node else (),
            constants=node.constants if node else (),
            outputs=node.outputs if node else (),
            inserted=_is_inserted(name, op_type, arguments),
        )


def _by_node(events: _Events) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """A node's name and number -> its kernel events in the order of the runs."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(_EVENT)]
    for event in _outermost(sorted(kernels, key=lambda event: event["ts"])):
        name = event["name"].removesuffix(_EVENT)
        found.setdefault((name, event["args"].get("node_index", "")), []).append(event)
    return found


def _outermost(events: _Events) -> Iterator[Mapping[str, Any]]:
    """``events``, sorted by their start, without those inside the time of a node that has a subgraph.

    Times are cut to whole microseconds: a last one inside can seem to start when that node ends.
    """
    end = -1
    for event in events:
        if event["ts"] < end:
            continue
        if event["args"]["op_name"] in _WITH_SUBGRAPHS:
            end = event["ts"] + event["dur"]
        yield event


def _types(arguments: Mapping[str, Any], which: str) -> list[str]:
    return [kind for entry in arguments.get(f"{which}_type_shape", ()) for kind in entry]


def _is_inserted(name: str, op_type: str, arguments: Mapping[str, Any]) -> bool:
    """Whether this is a Cast of the backend's own; a Cast of the file that was merged with one can have its name."""
    types = {*_types(arguments, "input"), *_types(arguments, "output")}
    return op_type == "Cast" and name.startswith(_INSERTED_CAST) and types <= set(_FLOATS)


def _precision(name: str, arguments: Mapping[str, Any], node: "GraphNode | None") -> str:
    """What a node computes in. Weights that a kernel packed for itself are missing from the types in the profile."""
    op_type, read, made = arguments["op_name"], _types(arguments, "input"), _types(arguments, "output")
    if is_compiled(name, arguments["provider"]):
        return ""
    if op_type == "MatMulNBits":
        return f"int{node.bits or 4}" if node else "intN"
    if op_type not in CONVERSIONS and (_is_int8(op_type) or {"int8", "uint8"} & set(read)):
        return "int8"
    kind = next((kind for kind in (*made, *read) if kind in _FLOATS), made[0] if made else "")
    return _FLOATS.get(kind, kind)

"""Reading, checking and saving ``.onnx`` files, with errors that say what is wrong with the file."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from exporters import norms
from exporters.atomic_file import staged
from exporters.errors import BadModelFile, BadOption, WrongResult

MAX_BYTES = 2**31 - 1
"""What protobuf, and so one file, holds."""
_NORMS = {
    "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
}  # fmt: skip


def read(path: Path) -> onnx.ModelProto:
    """The graph in a file, without the weights that lie beside it.

    Raises BadModelFile when ``path`` is missing, truncated or not ONNX.
    """
    if not path.exists():
        raise BadModelFile(f"There is no model file {path}.", "Check the path, or make one with `nnx export`.")
    if path.is_dir():
        raise BadModelFile(f"{path} is a folder, not a model file.", "Name the .onnx file inside it.")
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise BadModelFile(
            f"{path} is not an ONNX file, or it is truncated ({path.stat().st_size:,} bytes).",
            "Copy or export it again.",
        ) from error
    if not model.graph.node or not model.opset_import:
        raise BadModelFile(f"{path} holds no ONNX graph.", "Copy or export it again.")
    return model


def read_weights(model: onnx.ModelProto, path: Path) -> None:
    """Take the weights that lie beside ``path`` into ``model``, which :func:`read` found there."""
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (FileNotFoundError, onnx.checker.ValidationError) as error:
        raise unreadable_weights(path, one_line(error)) from error


def unreadable_weights(path: Path, why: str) -> BadModelFile:
    """The error about weights that should lie beside ``path``."""
    return BadModelFile(
        f"{path} keeps weights in a file beside it that could not be read: {why}.",
        "Copy the external data file into the same folder.",
    )


def check(model: onnx.ModelProto, *, step: str) -> None:
    """Run onnx's full checker; raise WrongResult, naming ``step``, when the model is not valid or too large for it."""
    _require_one_file(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise WrongResult(
            f"The model made by the step '{step}' is not valid ONNX: {one_line(error)}.",
            "This is a fault of nnx or of a library below it: report it with the model.",
        ) from error


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write ``model`` to ``path`` atomically, as one file."""
    _require_one_file(model)
    with staged(path) as temporary:
        onnx.save(model, temporary)


def _require_one_file(model: onnx.ModelProto) -> None:
    """onnx's checker and its protobuf both end at 2 GB, each in a way of its own."""
    if model.ByteSize() > MAX_BYTES:
        raise WrongResult(
            f"The model is {model.ByteSize() / 1e9:.1f} GB; one ONNX file holds at most 2 GB.",
            "Models with external data are not supported yet: use a smaller one.",
        )


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the default operator set that the model imports."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def graphs_of(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph and every graph inside its nodes (the branches of If, the bodies of Loop)."""
    pending = [model.graph]
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    pending.append(attribute.g)
                pending.extend(attribute.graphs)


def has_subgraphs(model: onnx.ModelProto) -> bool:
    """Whether nodes hold graphs, which may read tensors that no node's input names."""
    return len(list(graphs_of(model))) > 1


def precision_of(model: onnx.ModelProto) -> str:
    """fp32, fp16, bf16, int4, int8-static or int8-dynamic, read off the operators and the types of the weights."""
    operators = {node.op_type for node in model.graph.node}
    types = {tensor.data_type for tensor in model.graph.initializer}
    if "MatMulNBits" in operators or types & {onnx.TensorProto.INT4, onnx.TensorProto.UINT4}:
        return "int4"
    if operators & {"DynamicQuantizeLinear", "DynamicQuantizeLSTM", "MatMulInteger", "ConvInteger"}:
        return "int8-dynamic"
    if operators & {"QuantizeLinear", "QLinearConv", "QLinearMatMul"}:
        return "int8-static"
    if onnx.TensorProto.BFLOAT16 in types:
        return "bf16"
    return "fp16" if onnx.TensorProto.FLOAT16 in types else "fp32"


def interface_of(model: onnx.ModelProto) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the model's inputs (weights apart) and outputs."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(value.name for value in model.graph.input if value.name not in weights)
    return inputs, tuple(value.name for value in model.graph.output)


def require_nodes(model: onnx.ModelProto, names: Collection[str], *, source: object) -> None:
    """Raise BadOption unless ``model``, which errors call ``source``, has a node of each of ``names``."""
    if missing := sorted(set(names) - {node.name for node in model.graph.node}):
        raise BadOption(f"There is no node named {', '.join(missing)} in {source}.", "`nnx explain` lists the nodes.")


def one_line(error: BaseException) -> str:
    """The first line of a library's message, without its colours and its final full stop."""
    lines = [line.strip() for line in _plain(str(error)).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".:")


def some(parts: Sequence[str], most: int = 5) -> str:
    """``parts`` in one line, the first ``most`` of them by name."""
    left = len(parts) - most
    return ", ".join(parts[:most]) + (f" and {left} more" if left > 0 else "")


def require_opset(model: onnx.ModelProto, least: int, *, source: object) -> None:
    """Raise BadModelFile for a model of an older operator set than ``least``."""
    if opset_of(model) < least:
        raise BadModelFile(
            f"{source} has opset {opset_of(model)}, and this needs {least}.",
            "Export it again with --opset 18 or newer, or raise it with onnx.version_converter.",
        )


def has_layer_norms(model: onnx.ModelProto) -> bool:
    """Whether the graph normalises layers, as a transformer does, in one operator or in parts."""
    return any(
        any(node.op_type in _NORMS for node in graph.node) or norms.normalizes_layers(graph)
        for graph in graphs_of(model)
    )


def outer_reads(node: onnx.NodeProto) -> set[str]:
    """The tensors that graphs inside ``node`` read and do not make: they come from the graphs around it."""
    found: set[str] = set()
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            read: set[str] = {value.name for value in graph.output}
            for inner in graph.node:
                own.update(inner.output)
                read.update(inner.input)
                read |= outer_reads(inner)
            found |= read - own
    return found - {""}


def rename_outer_reads(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Let the graphs inside ``node`` read other tensors of the graphs around it."""
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            own |= {name for inner in graph.node for name in inner.output}
            outer = {name: other for name, other in names.items() if name not in own}
            for inner in graph.node:
                for index, name in enumerate(inner.input):
                    inner.input[index] = outer.get(name, name)
                rename_outer_reads(inner, outer)


def _plain(text: str) -> str:
    """``text`` without ANSI escape sequences, which torch.onnx puts into its messages."""
    parts = text.split("\x1b[")
    return parts[0] + "".join(part.partition("m")[2] for part in parts[1:])

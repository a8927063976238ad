"""Loading, checking and saving ``.onnx`` files, with errors that say what is wrong with the file."""

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from exporters.atomic_file import staged
from exporters.errors import BadModelFile, WrongResult

_MAX_PROTOBUF_BYTES = 2**31 - 1


def load(path: Path) -> onnx.ModelProto:
    """Read a model; raise BadModelFile when ``path`` is missing, truncated or not ONNX."""
    if not path.exists():
        raise BadModelFile(f"There is no model file {path}.", "Check the path, or make one with `nnx export`.")
    if path.is_dir():
        raise BadModelFile(f"{path} is a folder, not a model file.", "Name the .onnx file inside it.")
    try:
        model = onnx.load(path, format="protobuf")
    except DecodeError as error:
        raise BadModelFile(
            f"{path} is not an ONNX file, or it is truncated ({path.stat().st_size:,} bytes).",
            "Copy or export it again.",
        ) from error
    except (FileNotFoundError, onnx.checker.ValidationError) as error:
        raise BadModelFile(
            f"{path} keeps weights in a file beside it that could not be read: {one_line(error)}.",
            "Copy the external data file into the same folder.",
        ) from error
    if not model.graph.node or not model.opset_import:
        raise BadModelFile(f"{path} holds no ONNX graph.", "Copy or export it again.")
    return model


def check(model: onnx.ModelProto, *, step: str) -> None:
    """Run onnx's full checker; raise WrongResult, naming ``step``, when the model is not valid."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise WrongResult(
            f"The model made by the step '{step}' is not valid ONNX: {one_line(error)}.",
            "This is a fault of nnx or of a library below it: report it with the model.",
        ) from error


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write ``model`` to ``path`` atomically, as one file."""
    if model.ByteSize() > _MAX_PROTOBUF_BYTES:
        raise WrongResult(
            f"The model is {model.ByteSize() / 1e9:.1f} GB; one ONNX file holds at most 2 GB.",
            "Models with external data are not supported yet: use a smaller one.",
        )
    with staged(path) as temporary:
        onnx.save(model, temporary)


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


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node a name of its own: libraries, and users, tell nodes apart by it."""
    taken: set[str] = set()
    for index, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{index}"
        taken.add(node.name)


def one_line(error: BaseException) -> str:
    """The first line of a library's message, without its colours and its final full stop."""
    lines = [line.strip() for line in _plain(str(error)).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".:")


def _plain(text: str) -> str:
    """``text`` without ANSI escape sequences, which torch.onnx puts into its messages."""
    parts = text.split("\x1b[")
    return parts[0] + "".join(part.partition("m")[2] for part in parts[1:])

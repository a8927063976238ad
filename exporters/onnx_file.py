"""Reading, checking and saving ``.onnx`` files, with errors that say what is wrong with the file."""

import errno
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from exporters import endless_loops, external_data, large_weights, norms, one_file, skeleton
from exporters.atomic_file import staged, unlock
from exporters.errors import BadModelFile, BadOption, WrongResult
from exporters.operators import opsets_of
from exporters.tensors import all_tensors, damaged

LARGEST_FILE = 2**31 - 1
"""What protobuf, and so one file, holds."""
_NAMING = {errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.EINVAL}
_NORMS = {
    "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
}  # fmt: skip


def read(path: Path) -> onnx.ModelProto:
    """The graph in a file, without the weights that lie beside it.

    Raises BadModelFile when ``path`` is missing, no regular file, truncated, not ONNX, or holds what no reader could
    take: constants that are not as large as their shape says, types that do not exist, names that are no text.
    """
    model = parsed(path)
    for fault in damages(model, path):
        raise fault
    return model


def parsed(path: Path) -> onnx.ModelProto:
    """What a file holds, as :func:`read` gives it, with its :func:`damages`: a large one's weights as stubs.

    Raises BadModelFile when ``path`` is missing, no regular file, truncated or not ONNX.
    """
    try:
        size = _size_of(path)
        model = one_file.load(path)
    except DecodeError as error:
        raise BadModelFile(
            f"{path} is not an ONNX file, or it is truncated ({size:,} bytes).", "Copy or export it again."
        ) from error
    except OSError as error:
        if error.errno not in _NAMING:
            raise  # the machine is at fault, not the file
        raise BadModelFile(
            f"{path} cannot be read: {error.strerror}.", "Check the path and its permissions."
        ) from error
    if not all(isinstance(text, str) for text in _texts(model)):  # what is not UTF-8 comes as bytes
        raise BadModelFile(f"{path} is damaged: it holds a name or text that is not UTF-8.", "Copy or export it again.")
    if not (model.graph.node or model.graph.output) or not model.opset_import:
        raise BadModelFile(f"{path} holds no ONNX graph.", "Copy or export it again.")
    return model


def damages(model: onnx.ModelProto, path: Path) -> Iterator[BadModelFile]:
    """An error for each thing in ``model``, read from ``path``, that no reader could take."""
    yield from damaged(model, path)
    yield from _unknown_types(model, path)
    yield from _made_wrongly(model, path)
    try:
        endless_loops.refuse(model, path)
    except BadModelFile as endless:
        yield endless


def _size_of(path: Path) -> int:
    """Of a regular file that can hold a model; raises OSError and BadModelFile."""
    if not path.exists():
        raise BadModelFile(f"There is no model file {path}.", "Check the path, or make one with `nnx export`.")
    if path.is_dir():
        raise BadModelFile(f"{path} is a folder, not a model file.", "Name the .onnx file inside it.")
    if not path.is_file():
        raise BadModelFile(f"{path} is a device or a pipe, not a model file.", "Name an .onnx file.")
    if (size := path.stat().st_size) > LARGEST_FILE:
        raise BadModelFile(
            f"{path} has {size / 1e9:.1f} GB; one ONNX file holds at most 2 GB, with further weights beside it.",
            "Export it with external data.",
        )
    return size


def _texts(model: onnx.ModelProto) -> Iterator[str]:
    """Every name and text in a model, but those in values."""
    yield from (model.producer_name, model.producer_version, model.domain, model.doc_string)
    for prop in model.metadata_props:
        yield from (prop.key, prop.value)
    for entry in model.opset_import:
        yield entry.domain
    for function in model.functions:
        yield from (function.name, function.domain, *function.input, *function.output, *function.attribute)
    nodes = [node for graph in graphs_of(model) for node in graph.node]
    for node in (*nodes, *(node for function in model.functions for node in function.node)):
        yield from (node.name, node.op_type, node.domain, node.doc_string, *node.input, *node.output)
        for attribute in node.attribute:
            yield from (attribute.name, attribute.doc_string)
    for graph in graphs_of(model):
        yield from (graph.name, graph.doc_string)
        for value in (*graph.input, *graph.output, *graph.value_info):
            yield from (value.name, value.doc_string, *(axis.dim_param for axis in value.type.tensor_type.shape.dim))
    for tensor in all_tensors(model):
        yield from (tensor.name, tensor.doc_string)
        for place in tensor.external_data:
            yield from (place.key, place.value)


def _unknown_types(model: onnx.ModelProto, path: Path) -> Iterator[BadModelFile]:
    for graph in graphs_of(model):
        for value in (*graph.input, *graph.output, *graph.value_info):
            if (number := value.type.tensor_type.elem_type) not in TensorProto.DataType.values():
                yield BadModelFile(
                    f"{path} is damaged: the type {number} of '{value.name}' does not exist.",
                    "Copy or export it again.",
                )


def _made_wrongly(model: onnx.ModelProto, path: Path) -> Iterator[BadModelFile]:
    """Each node makes something, and each tensor of a graph is made by one node."""
    for graph in graphs_of(model):
        if any(not node.op_type or not any(node.output) for node in graph.node):
            yield BadModelFile(f"{path} is damaged: a node has no operator or no output.", "Export it again.")
        seen: set[str] = set()
        for name in (name for node in graph.node for name in node.output if name):
            if name in seen:
                yield BadModelFile(f"In {path} two nodes make the tensor '{name}'.", "Export it again.")
            seen.add(name)


def check(model: onnx.ModelProto, *, step: str) -> None:
    """Run onnx's full checker; raise WrongResult, naming ``step``, when the model is not valid."""
    if why := invalid(model):
        raise WrongResult(
            f"The model made by the step '{step}' is not valid ONNX: {why}.",
            "This is a fault of nnx or of a library below it: report it with the model.",
        )


def invalid(model: onnx.ModelProto) -> str | None:
    """Why ``model`` is not valid ONNX, by onnx's full checker; None where it is."""
    try:
        skeleton.check(model)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return one_line(error)
    return None


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write ``model`` to ``path`` atomically; above 2 GB, or as :func:`external_data.keeping` says, in two files.

    Whenever the process is killed, ``path`` is the old model with its weights or the new one with its own: new weights
    have a name that the old model does not read (:func:`external_data.fresh_data_path`), and what it read is removed
    once the new one is in place. Raises BadOption where the weights need a file and ``path`` is a link.
    """
    if not external_data.goes_beside(model):
        with staged(path) as temporary:
            _write_whole(model, temporary)
        return
    with _replaced(path) as beside, staged(path) as temporary, staged(beside) as weights:
        external_data.write(model, temporary, weights, location=beside.name)


def write(model: onnx.ModelProto, path: Path) -> Path:
    """Write ``model`` to ``path`` in a temporary folder, for a library to open: a large one in two files."""
    if external_data.size_of(model) <= external_data.MAX_BYTES and not large_weights.has_stubs(model):
        onnx.save(model, path)
    else:
        beside = external_data.data_path(path)
        external_data.write(model, path, beside, location=beside.name)
    return path


def _write_whole(model: onnx.ModelProto, path: Path) -> None:
    if large_weights.has_stubs(model):
        external_data.write_whole(model, path)
    else:
        onnx.save(model, path)


@contextmanager
def staged_model(final: Path) -> Iterator[Path]:
    """:func:`staged` for a model that :func:`save` may spread over two files: both take their places, or none.

    As with :func:`save`, a kill at any moment leaves the old pair or the new one.
    """
    with ExitStack() as after, staged(final) as temporary:
        try:
            yield temporary
            if (beside := external_data.data_of(temporary)) is not None:
                placed = after.enter_context(_replaced(final))
                external_data.rename(temporary, placed.name)
                beside.replace(placed)
        finally:
            for name in external_data.data_names(temporary):
                name.unlink(missing_ok=True)
                unlock(name)


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """The name for the weights of a new model at ``path``; when it is there those that the old one read are removed."""
    if path.is_symlink():
        raise BadOption(
            f"{path} is a link, and the model is too large for one file.", "Name the file that it leads to."
        )
    old, fresh = external_data.data_of(path), external_data.fresh_data_path(path)
    before = _number_of(fresh)
    try:
        yield fresh
    except BaseException:
        if _number_of(fresh) != before and external_data.data_of(path) != fresh:  # its model did not get there
            fresh.unlink(missing_ok=True)
        raise
    if old is not None and old != fresh and old.exists():
        fresh.chmod(stat.S_IMODE(old.stat().st_mode))
        old.unlink()


def _number_of(path: Path) -> int | None:
    """What tells a file from another that takes its name; None where there is none."""
    return path.stat().st_ino if path.exists() else None


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the default operator set that the model imports; 0 where it imports none."""
    return opsets_of(model)[""]


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
    operators = {node.op_type for graph in graphs_of(model) for node in graph.node}
    types = {tensor.data_type for graph in graphs_of(model) for tensor in graph.initializer}
    if operators & {"MatMulNBits", "GatherBlockQuantized"} or types & {onnx.TensorProto.INT4, onnx.TensorProto.UINT4}:
        return "int4"
    if operators & {"DynamicQuantizeLinear", "DynamicQuantizeLSTM", "MatMulInteger", "ConvInteger"}:
        return "int8-dynamic"
    if operators & {"QuantizeLinear", "QLinearConv", "QLinearMatMul"}:
        return "int8-static"
    if onnx.TensorProto.INT8 in types:  # a table, or weights that are taken back to float when the file is loaded
        return "int8-dynamic"
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
    if missing := sorted(set(names) - {node.name for graph in graphs_of(model) for node in graph.node}):
        raise BadOption(f"There is no node named {', '.join(missing)} in {source}.", "`nnx explain` lists the nodes.")


def one_line(error: BaseException) -> str:
    """The first line of a library's message, without its colours and its final full stop."""
    lines = [line.strip() for line in _plain(str(error)).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".:")


def some(parts: Sequence[str], most: int = 5) -> str:
    """``parts`` in one line, the first ``most`` of them by name."""
    left = len(parts) - most
    return ", ".join(parts[:most]) + (f" and {left} more" if left > 0 else "")


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
            for value in graph.output:
                value.name = outer.get(value.name, value.name)


def _plain(text: str) -> str:
    """``text`` without ANSI escape sequences, which torch.onnx puts into its messages."""
    parts = text.split("\x1b[")
    return parts[0] + "".join(part.partition("m")[2] for part in parts[1:])

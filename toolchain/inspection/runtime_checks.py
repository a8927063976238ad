"""What stands against a file in the installed ONNX Runtime: versions, operators, Q/DQ pairs that do not fuse."""

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import onnx
from onnx import helper

from exporters import onnx_file
from exporters.int8 import operators
from exporters.model_file import ModelFile
from exporters.versions import TYPES_SINCE
from runtimes import ort_profile
from runtimes.errors import NotLoadable
from runtimes.ort import OrtRuntime
from toolchain.inspection import targets
from toolchain.inspection.faults import WARNING, Fault
from toolchain.inspection.graph_checks import newer_operator
from toolchain.inspection.nodes import ONNX_DOMAINS, name_of
from toolchain.inspection.releases import INSTALLED, Computes, Release

_BESIDE = "load external data into raw data"
_INTO_THE_FILE = "It wants constants that decide shapes inside the file: nnx convert --external-data never."
_LIBRARY = "Register the library of the operator, or write it with ONNX's own."
_QUANTIZERS = {"QuantizeLinear", "DequantizeLinear"}


@cache
def newest_ir() -> int:
    """The newest file format that the installed ONNX Runtime reads, found by trying."""
    return next((ir for ir in range(int(onnx.IR_VERSION), 3, -1) if _opens(ir=ir, opset=7)), 3)


@cache
def newest_opset() -> int:
    """The newest operator set that it takes, found by trying."""
    newest = int(onnx.defs.onnx_opset_version())
    return next((opset for opset in range(newest, 7, -1) if _opens(ir=4, opset=opset)), 7)


def _opens(*, ir: int, opset: int) -> bool:
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "tiny", value[:1], value[1:])
    tiny = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    with tempfile.TemporaryDirectory(prefix="nnx-tiny-") as folder:
        path = Path(folder) / "tiny.onnx"
        onnx.save(tiny, path)
        return not list(opening(ModelFile(path)))


def version_faults(model: onnx.ModelProto, release: Release | None = None) -> Iterator[Fault]:
    """IR version and operator sets: too new to be read, or too old for what is in the file."""
    ir, opset = int(model.ir_version), onnx_file.opset_of(model)
    reader = "the installed ONNX Runtime" if release is None else release.label
    newest_read = newest_ir() if release is None else release.ir_version
    newest_known = newest_opset() if release is None else release.opset
    if ir < 1:
        yield _version("it states no IR version", "Set ir_version, 10 for most readers.")
    elif ir > newest_read:
        what = f"IR version {ir}: {reader} reads up to {newest_read}"
        yield _version(what, f"nnx convert --ir-version {newest_read}; the graph may stay as it is.")
    if opset > newest_known:
        what = f"opset {opset}: {reader} knows up to {newest_known}"
        yield _version(what, f"Export it with an older opset, or lower it: nnx convert --opset {newest_known}.")
    elif opset < 7 and any(node.domain in ONNX_DOMAINS for node in model.graph.node):
        what, do = f"opset {opset}: ONNX Runtime promises nothing below 7", "Raise it with onnx.version_converter."
        yield _version(what, do, severity=WARNING)
    if len({entry.domain for entry in model.opset_import}) < len(model.opset_import):
        yield _version("an operator set is imported twice", "Leave one of them out.")
    yield from _too_old(model, ir)


def _too_old(model: onnx.ModelProto, ir: int) -> Iterator[Fault]:
    wanted: dict[str, int] = {}
    for graph in onnx_file.graphs_of(model):
        for tensor in graph.initializer:
            name = onnx.TensorProto.DataType.Name(tensor.data_type) if tensor.data_type else ""
            if TYPES_SINCE.get(name, 0) > ir:
                wanted[f"weights of type {name.lower()}"] = TYPES_SINCE[name]
    if model.functions and ir < 8:
        wanted["local functions"] = 8
    for what, version in wanted.items():
        yield _version(f"IR version {ir} has no {what}, which came with {version}", f"Set ir_version to {version}.")
    known = [
        entry
        for entry in model.opset_import
        if (entry.domain or "ai.onnx", entry.version) in helper.OP_SET_ID_VERSION_MAP
    ]
    least = helper.find_min_ir_version_for(known, ignore_unknown=True) if known else 0
    if 0 < ir < least and not wanted:
        what = f"IR version {ir} is older than its opsets, which came with {least}"
        yield _version(what, "Most readers take it; set ir_version where one does not.", severity=WARNING)


def _version(what: str, do: str, severity: str = "fault") -> Fault:
    return Fault(kind="version", where="", what=what, do=do, severity=severity)


def runtime_faults(model: ModelFile, *, explained: bool) -> Iterator[Fault]:
    """What ONNX Runtime refuses, and what it cannot do well.

    Where it opens the file it has all operators, whatever its table of kernels says: it folds and rewrites. Its own
    sentence is one of the faults where neither its table nor, as ``explained`` says, another check has the reason.
    """
    refusals = list(opening(model))
    absent = list(absent_operators(model.graph)) if refusals else []
    yield from absent or ([] if explained else refusals)
    if not refusals:
        yield from unfused_pairs(model)


def absent_operators(model: onnx.ModelProto, release: Computes = INSTALLED) -> Iterator[Fault]:
    """Nodes that ONNX Runtime's CPU provider has no kernel for."""
    for found in targets.absent(model, release):
        do = newer_operator(found.place.node, found.opset) or _LIBRARY
        yield Fault(kind="target", where=found.place.label, what=found.why, do=do)


def opening(model: ModelFile) -> Iterator[Fault]:
    """What ONNX Runtime says when it opens the file, if it refuses."""
    try:
        with OrtRuntime(model.path):
            pass
    except NotLoadable as refused:
        do = _INTO_THE_FILE if _BESIDE in refused.what else "Mend what is listed with it."
        yield Fault(kind="target", where="", what=refused.what.rstrip("."), do=do)


def unfused_pairs(model: ModelFile) -> Iterator[Fault]:
    """Q/DQ pairs around an operator that has an int8 kernel, which it does not get; warnings for others."""
    if not any(node.op_type in _QUANTIZERS for node in model.graph.graph.node):
        return
    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    for each in graph.graph.node:
        each.name = name_of(each)  # by which ONNX Runtime tells what became of it
    try:
        with tempfile.TemporaryDirectory(prefix="nnx-named-") as folder:
            left = ort_profile.left_over(onnx_file.write(graph, Path(folder) / "named.onnx"))
    except NotLoadable:
        return  # which is said elsewhere
    in_float = [node for node in left if node.op_type not in ort_profile.CONVERSIONS]
    for node in in_float:
        has_kernel = node.op_type in operators.KNOWN and node.op_type not in operators.ACTIVATIONS
        why = _why(graph, node.name) if has_kernel else "ONNX Runtime has no int8 kernel for it"
        yield Fault(
            kind="Q/DQ", where=node.name or node.op_type, severity="fault" if has_kernel else WARNING,
            what=f"{node.op_type} {node.why.removeprefix('it ')}: {why}",
            do="Quantize it anew with `nnx quantize`, or take its Q/DQ nodes out."
            if has_kernel else "Take its Q/DQ nodes out if they cost more time than they save.",
        )  # fmt: skip
    for node in left:
        if node.op_type == "DequantizeLinear" and node.why.startswith("its weights"):
            yield Fault(
                kind="Q/DQ", where=node.name or node.op_type, what=node.why, severity=WARNING,
                do="Give its reader quantized activations too, or store the weights in float.",
            )  # fmt: skip


def _why(model: onnx.ModelProto, name: str) -> str:
    """What is missing around the node for its Q/DQ pairs to fuse."""
    nodes = model.graph.node
    node = next((each for each in nodes if each.name == name), None)
    if node is None:
        return "its pairs do not fit an int8 kernel"
    makers = {made: each for each in nodes for made in each.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for each in nodes:
        for read in each.input:
            readers.setdefault(read, []).append(each)
    graph_outputs = {value.name for value in model.graph.output}
    for read in [each for each in node.input[:2] if each]:
        maker = makers.get(read)
        if maker is None or maker.op_type != "DequantizeLinear":
            return f"its input '{read}' does not come from a DequantizeLinear"
        if len(readers.get(read, [])) > 1:
            return f"its input '{read}' is read by {len(readers[read])} nodes, and a pair fuses into one"
    users = readers.get(node.output[0], [])
    if node.output[0] in graph_outputs:
        return f"its result '{node.output[0]}' is an output of the model in float"
    if any(user.op_type != "QuantizeLinear" for user in users):
        return f"its result '{node.output[0]}' is read in float too"
    if len(users) > 1:
        return f"its result '{node.output[0]}' is quantized {len(users)} times"
    return "the types or scales of its pairs do not fit an int8 kernel"

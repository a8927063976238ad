"""fp32 .onnx -> fp16 .onnx: half precision wherever the numbers fit it, fp32 where they do not.

Half precision reaches 65504. A node with a constant beyond that, or with one that would vanish to zero altogether,
stays in fp32; with ranges measured on calibration data so does each whose activations overflow or vanish.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from exporters import element_types, onnx_file, operators, skeleton
from exporters.artifact import Artifact
from exporters.errors import BadOption, NotApplicable, NotConvertible, WrongResult
from exporters.finish import finish, sparing
from exporters.half import graph as half_graph
from exporters.half import nested
from exporters.half import ranges as half_ranges
from exporters.half.ranges import MAX_HALF, HalfRange
from exporters.large_weights import array_of
from exporters.model_file import ModelFile
from exporters.tensors import require_fp32

_HANDING_ON = {
    "Where", "Add", "Sub", "Mul", "Neg", "Identity", "Expand", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Slice",
    "Concat", "Tile", "Gather", "Pad", "Sum", "Min", "Flatten", "Split", "ScatterND", "ScatterElements", "Trilu",
}  # fmt: skip
"""Operators whose result is as large as what they read."""
_NO_NHWC_AVERAGE = 19


@sparing
def convert(
    src: ModelFile,
    dst: Path,
    *,
    keep_io_types: bool = True,
    keep_fp32: Collection[str] = (),
    ranges: Mapping[str, HalfRange] | None = None,
) -> Artifact:
    """Write ``src``'s fp16 version to ``dst``.

    Inputs and outputs stay fp32 unless ``keep_io_types`` is false. ``keep_fp32`` names nodes to leave in fp32, beside
    those whose constants half precision cannot hold and, given ``ranges`` (``half_ranges.measure``), those whose
    activations it cannot. The artifact's notes say which and why.

    Raises BadModelFile for a file that has nothing to convert, BadOption for a node that is not there or half-precision
    inputs and outputs that would overflow, NotApplicable when no weight can become half precision, NotConvertible when
    the types in the graph cannot be told, WrongResult when what was made is not a valid fp16 model.
    """
    model = src.to_convert()
    _refuse_converted(src, model)
    onnx_file.require_nodes(model, keep_fp32, source=src)
    if not keep_io_types:
        _refuse_overflowing_interface(src, ranges or {})
    unfit = half_ranges.misfits(model.graph, ranges or {}) | _nodes_half_cannot_hold(model.graph)
    unfit = _carried_on(model.graph, unfit)
    half, types = _typed(model)
    untouchable = (
        _reading_the_untyped(half.graph), _handling_containers(half.graph, types), _crashing(half.graph),
        _without_a_kernel(half),
    )  # fmt: skip
    kept = sorted({*keep_fp32, *unfit}.union(*untouchable))
    half_graph.rewrite(half, kept=kept, keep_io_types=keep_io_types)
    nested.store_weights(half.graph, kept=keep_fp32, fits=lambda tensor: _misfit(tensor) is None)
    _verify(half, keep_io_types, src, unfit)
    notes = tuple(f"{name} stays in fp32: {why}" for name, why in sorted(unfit.items()))
    return finish(half, dst, src=src, precision="fp16", facts={"fp32_nodes": ", ".join(kept)}, notes=notes)


def _reading_the_untyped(graph: onnx.GraphProto) -> set[str]:
    """The nodes that read what operators outside ONNX made, whose type nothing tells: casting that would be a guess."""
    typed = {value.name for value in (*graph.input, *graph.output, *graph.value_info)}
    typed |= {tensor.name for tensor in graph.initializer}
    return {node.name for node in graph.node if any(name and name not in typed for name in node.input)}


def _handling_containers(graph: onnx.GraphProto, types: Mapping[str, str]) -> set[str]:
    """The nodes that read or make sequences, optionals or maps: there is no Cast for those."""
    holders = {name for name, kind in types.items() if kind and not kind.startswith("tensor(")}
    return {node.name for node in graph.node if holders & {*node.input, *node.output}}


def _crashing(graph: onnx.GraphProto) -> set[str]:
    """The Transposes of batch axes in front of a product, as between an LSTM and a Linear: in fp32 they do no harm.

    In half precision onnxruntime 1.31 crashes while it opens the model on a CPU: its MatmulTransposeFusion moves the
    Cast that the CPU needs there, and its NchwcTransformer follows what is gone.
    """
    products = {name for node in graph.node if node.op_type == "MatMul" for name in node.input}
    return {
        node.name
        for node in graph.node
        if node.op_type == "Transpose" and node.output[0] in products and _moves_batch(node)
    }


def _moves_batch(transpose: onnx.NodeProto) -> bool:
    perm = operators.attributes_of(transpose).get("perm", [])
    return len(perm) > 2 and perm[0] != 0 and (perm[-1] == len(perm) - 1 or perm[-2] == len(perm) - 1)


def _without_a_kernel(model: onnx.ModelProto) -> set[str]:
    """The AveragePools of opset 19 and later: between two Casts they open everywhere.

    In half precision onnxruntime 1.31 opens none behind a Conv on arm64, where the processor computes in it: its
    NhwcTransformer makes each one channels-last, and the kernel for those is of opset 11 to 18.
    """
    if operators.opsets_of(model).get("", 0) < _NO_NHWC_AVERAGE:
        return set()
    return {node.name for node in model.graph.node if node.op_type == "AveragePool"}


def _refuse_converted(src: ModelFile, model: onnx.ModelProto) -> None:
    src.require_fp32()
    require_fp32(model, src, "convert")


def _refuse_overflowing_interface(src: ModelFile, ranges: Mapping[str, HalfRange]) -> None:
    for value in (*src.inputs, *src.outputs):
        seen = ranges.get(value.name)
        if seen is not None and seen.overflows:
            raise BadOption(
                f"'{value.name}' reaches {seen.largest:.4g} in {src}; half precision ends at {MAX_HALF:.0f}.",
                "Keep the inputs and outputs in fp32.",
            )


def _typed(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Mapping[str, str]]:
    """``model`` with the type of each tensor written into it, as far as something tells; and those types by name."""
    try:
        skeleton.add_shapes(model)
    except onnx.shape_inference.InferenceError as error:
        raise NotConvertible(
            f"The types in the model could not be told: {onnx_file.one_line(error)}.",
            "Run the fp32 model with `nnx bench` first; if it runs, report this with the model.",
        ) from error

    known = element_types.declared(model.graph)
    opsets = operators.opsets_of(model)
    for node in model.graph.node:  # what onnx's inference does not tell: GroupNormalization, ONNX Runtime's operators
        untyped = [name for name in node.output if name and name not in known]
        element_types.tell(node, known, opsets)
        for name in untyped:
            if known.get(name) in (element_types.FLOAT, element_types.HALF):
                kind = TensorProto.FLOAT if known[name] == element_types.FLOAT else TensorProto.FLOAT16
                model.graph.value_info.append(onnx.helper.make_tensor_value_info(name, kind, None))
    return model, known


def _carried_on(graph: onnx.GraphProto, unfit: dict[str, str]) -> dict[str, str]:
    """``unfit`` and the nodes to which a constant beyond half precision is handed on: a Cast would make it infinite.

    A mask of finfo.min goes through Where and Add to the Softmax that tames it; a row of nothing but -inf is NaN.
    """
    found = dict(unfit)
    beyond = {tensor.name: tensor.name for tensor in graph.initializer if "reaches" in (_misfit(tensor) or "")}
    for node in graph.node:
        source = next((beyond[name] for name in node.input if name in beyond), None)
        if source is None:
            continue
        found.setdefault(node.name, f"it is handed the values of '{source}', which half precision cannot hold")
        if node.op_type in _HANDING_ON:
            beyond.update(dict.fromkeys(filter(None, node.output), source))
    return found


def _nodes_half_cannot_hold(graph: onnx.GraphProto) -> dict[str, str]:
    """Node name -> reason, for the nodes with a constant that overflows or wholly vanishes in half precision."""
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    unfit: dict[str, str] = {}
    for tensor in graph.initializer:
        if why := _misfit(tensor):
            unfit.update({node.name: f"its constant '{tensor.name}' {why}" for node in consumers.get(tensor.name, [])})
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and (why := _misfit(attribute.t)):
                unfit[node.name] = f"its value {why}"
                for output in node.output:
                    unfit.update({user.name: f"its constant '{output}' {why}" for user in consumers.get(output, [])})
    return unfit


def _misfit(tensor: TensorProto) -> str | None:
    if tensor.data_type != TensorProto.FLOAT:
        return None
    values = np.abs(array_of(tensor))
    finite = values[np.isfinite(values)]
    if finite.size and finite.max() > MAX_HALF:
        return f"reaches {finite.max():.4g}, and half precision ends at {MAX_HALF:.0f}"
    if finite.any() and not finite.astype(np.float16).any():
        return f"is at most {finite.max():.2g}, which half precision rounds to 0"
    return None


def _constants(graph: onnx.GraphProto) -> list[TensorProto]:
    found: list[TensorProto] = []
    for inner in skeleton.graphs_of(graph):
        found.extend(inner.initializer)
        found.extend(item.t for node in inner.node for item in node.attribute if item.HasField("t"))
    return found


def _verify(model: onnx.ModelProto, keep_io_types: bool, src: ModelFile, unfit: Collection[str]) -> None:
    if not any(tensor.data_type == TensorProto.FLOAT16 for tensor in _constants(model.graph)):
        weights = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT}
        others = {node.op_type for node in model.graph.node if weights & {*node.input} and node.name not in unfit}
        why = (
            f"it is read in fp32 (by {onnx_file.some(sorted(others))})"
            if others
            else "its numbers do not fit half precision"
        )
        raise NotApplicable(f"No weight of {src} could be converted to fp16: {why}.", "Ship the fp32 model.")
    if keep_io_types and any(
        value.type.tensor_type.elem_type == TensorProto.FLOAT16 for value in (*model.graph.input, *model.graph.output)
    ):
        raise WrongResult("An input or output of the fp16 model is not fp32.", "Report it with the model.")

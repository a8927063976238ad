"""fp32 .onnx -> fp16 .onnx, by onnxconverter-common with its known faults handled.

1. It leaves ``Cast(to=FLOAT)`` as it is while it declares the result half precision: the file does not load
   (microsoft/onnxconverter-common#320, #331). Such type attributes are turned to FLOAT16 before it runs.
2. It clamps weights at 1e4 and raises tiny ones to 1e-7 with only a warning. Half precision reaches 65504: weights
   up to there are kept as they are, and a node with a constant beyond it, or with one that would vanish to zero
   altogether, stays in fp32.
3. An initializer that an fp32 node and an fp16 node share keeps one type and the file does not load: each gets its own.
4. An output made by a node that stays in fp32 becomes fp16 against ``keep_io_types``: it is turned back.
"""

import warnings
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxconverter_common import float16

from exporters import onnx_file, provenance
from exporters.artifact import Artifact
from exporters.atomic_file import sha256_of
from exporters.errors import BadModelFile, BadOption, NotConvertible, WrongResult

MAX_HALF = float(np.finfo(np.float16).max)
_TYPE_ATTRIBUTE = {"Cast": "to"} | dict.fromkeys(
    (
        "EyeLike",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Multinomial",
        "Bernoulli",
    ),
    "dtype",
)


def convert(src: Path, dst: Path, *, keep_io_types: bool = True, keep_fp32: Collection[str] = ()) -> Artifact:
    """Write ``src``'s fp16 version to ``dst``.

    Inputs and outputs stay fp32 unless ``keep_io_types`` is false. ``keep_fp32`` names nodes to leave in fp32, beside
    those whose constants half precision cannot hold. Raises BadModelFile for a file that has nothing to convert,
    NotConvertible when the library fails, WrongResult when its output is not a valid fp16 model.
    """
    model = onnx_file.load(src)
    interface = onnx_file.interface_of(model)
    types = {tensor.data_type for tensor in _constants(model.graph)}
    if TensorProto.FLOAT not in types or TensorProto.FLOAT16 in types:
        found = "is fp16 already" if TensorProto.FLOAT16 in types else "has no fp32 weights to convert"
        raise BadModelFile(f"{src} {found}.", "Give the fp32 model.")
    _name_nodes(model.graph)
    missing = set(keep_fp32) - {node.name for node in model.graph.node}
    if missing:
        raise BadOption(f"There is no node named {', '.join(sorted(missing))} in {src}.", "List them with netron.")
    unfit = _nodes_half_cannot_hold(model.graph)
    kept = sorted({*keep_fp32, *unfit})
    half = _to_half(model, kept, keep_io_types)
    notes = tuple(f"{name} stays in fp32: {why}" for name, why in sorted(unfit.items()))
    opset = onnx_file.opset_of(half)
    parent = sha256_of(src)
    provenance.write(
        half,
        {
            "precision": "fp16",
            "parent_sha256": parent,
            "fp32_nodes": ", ".join(kept),
            "tools": provenance.tool_versions(),
        },
    )
    _verify(half, interface, keep_io_types)
    onnx_file.save(half, dst)
    return Artifact.of(dst, precision="fp16", opset=opset, parent_sha256=parent, notes=notes)


def _to_half(model: onnx.ModelProto, kept: list[str], keep_io_types: bool) -> onnx.ModelProto:
    try:
        typed = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        blocked = {
            node.name for node in typed.graph.node if node.name in kept or node.op_type in float16.DEFAULT_OP_BLOCK_LIST
        }
        _separate_shared_initializers(typed.graph, blocked)
        _turn_type_attributes(typed, blocked)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a warning here means a clamped weight, which must not happen
            half: onnx.ModelProto = float16.convert_float_to_float16(
                typed,
                min_positive_val=0.0,
                max_finite_val=MAX_HALF * (1 + 2**-12),  # beyond MAX_HALF itself, below what rounds to infinity
                keep_io_types=keep_io_types,
                disable_shape_infer=True,
                node_block_list=kept,
                check_fp16_ready=False,  # it takes the attributes turned above for a converted model
            )
        if keep_io_types:
            _keep_outputs_fp32(half.graph)
        return half
    except (ValueError, UserWarning, AssertionError, onnx.shape_inference.InferenceError) as error:
        raise NotConvertible(
            f"The model could not be converted to fp16: {onnx_file.one_line(error)}.",
            "Keep the nodes concerned in fp32 with --keep-fp32 NAME.",
        ) from error


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
    values = np.abs(numpy_helper.to_array(tensor))
    finite = values[np.isfinite(values)]
    if finite.size and finite.max() > MAX_HALF:
        return f"reaches {finite.max():.4g}, and half precision ends at {MAX_HALF:.0f}"
    if finite.any() and not finite.astype(np.float16).any():
        return f"is at most {finite.max():.2g}, which half precision rounds to 0"
    return None


def _separate_shared_initializers(graph: onnx.GraphProto, blocked: set[str]) -> None:
    """Give blocked nodes their own fp32 copy of every initializer that an fp16 node reads too."""
    read_in_half = {name for node in graph.node if node.name not in blocked for name in node.input}
    shared = {tensor.name: tensor for tensor in graph.initializer if tensor.name in read_in_half}
    copied: set[str] = set()
    for node in graph.node:
        if node.name not in blocked:
            continue
        for index, name in enumerate(node.input):
            if name not in shared or shared[name].data_type != TensorProto.FLOAT:
                continue
            own = f"{name}.fp32"
            if own not in copied:
                copy = graph.initializer.add()
                copy.CopyFrom(shared[name])
                copy.name = own
                copied.add(own)
            node.input[index] = own


def _turn_type_attributes(model: onnx.ModelProto, blocked: set[str]) -> None:
    """Make nodes whose attribute says "the result is FLOAT" say FLOAT16."""
    for graph in onnx_file.graphs_of(model):
        for node in graph.node:
            if node.name in blocked:
                continue
            if node.op_type == "ConstantOfShape" and not node.attribute:
                zero = helper.make_tensor("value", TensorProto.FLOAT16, [1], [0.0])
                node.attribute.append(helper.make_attribute("value", zero))
            wanted = _TYPE_ATTRIBUTE.get(node.op_type)
            for attribute in node.attribute:
                if attribute.name == wanted and attribute.i == TensorProto.FLOAT:
                    attribute.i = TensorProto.FLOAT16


def _keep_outputs_fp32(graph: onnx.GraphProto) -> None:
    """Undo the half type that the library gives to an output made by an fp32 node, whatever ``keep_io_types`` says."""
    made_by = {output: node for node in graph.node for output in node.output}
    for value in graph.output:
        node = made_by[value.name]
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16 and node.op_type == "Cast":
            value.type.tensor_type.elem_type = node.attribute[0].i = TensorProto.FLOAT


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node a name of its own: the library tells nodes apart by it."""
    taken: set[str] = set()
    for index, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{index}"
        taken.add(node.name)


def _constants(graph: onnx.GraphProto) -> list[TensorProto]:
    in_nodes = [item.t for node in graph.node for item in node.attribute if item.HasField("t")]
    return [*graph.initializer, *in_nodes]


def _verify(model: onnx.ModelProto, interface: tuple[tuple[str, ...], tuple[str, ...]], keep_io_types: bool) -> None:
    onnx_file.check(model, step="fp16")
    if onnx_file.interface_of(model) != interface:
        raise WrongResult("The fp16 model has other inputs or outputs.", "Report it with the model.")
    if not any(tensor.data_type == TensorProto.FLOAT16 for tensor in _constants(model.graph)):
        raise WrongResult(
            "No weight could be converted to fp16.",
            "Its constants exceed half precision: ship the fp32 model.",
        )
    if keep_io_types and any(
        value.type.tensor_type.elem_type == TensorProto.FLOAT16 for value in (*model.graph.input, *model.graph.output)
    ):
        raise WrongResult("An input or output of the fp16 model is not fp32.", "Report it with the model.")

"""Graphs made of a model to look at its layers: with taps, and with every layer fed on its own."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from toolchain.layers.graph import FLOAT_TYPES, Layer, Wiring

_Rename = Callable[[str], str]


def tapped(wiring: Wiring, tensors: Sequence[str]) -> onnx.ModelProto:
    """The model with ``tensors`` as its outputs."""
    model = _empty_copy(wiring.model)
    model.graph.CopyFrom(wiring.model.graph)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    return model


def with_taps(wiring: Wiring, layers: Sequence[Layer]) -> onnx.ModelProto:
    """The model with each layer's result as an fp32 output, in the order of ``layers``, quantized where the file does.

    The result is dequantized by a node beside the file's own, so that the int8 kernels fuse as they do without it.
    """
    model = tapped(wiring, [])
    for index, layer in enumerate(layers):
        nodes, output = tap(layer.output, layer.dtype, _quantizer(wiring, layer), prefix=f"tap{index}/")
        model.graph.node.extend(nodes)
        model.graph.output.append(onnx.ValueInfoProto(name=output))
    return model


def cut_apart(
    wiring: Wiring, layers: Sequence[Layer], *, types: Mapping[str, str], ranks: Mapping[str, int]
) -> onnx.ModelProto:
    """A graph of ``layers`` side by side, each fed its right inputs: these are the graph's inputs, by their names.

    Its outputs are the layers' fp32 results, in their order. Float inputs are fp32 whatever the file takes: a Cast
    follows where that is another type. ``ranks`` gives the inputs' numbers of axes.
    """
    model = _empty_copy(wiring.model)
    graph, used = model.graph, set()
    cuts = dict.fromkeys(name for layer in layers for name in layer.inputs)
    fed_as = {}
    for name in cuts:
        wanted = _element_type(types[name])
        given = TensorProto.FLOAT if types[name] in FLOAT_TYPES else wanted
        axes = [f"{name}_axis{axis}" for axis in range(ranks[name])]
        graph.input.append(helper.make_tensor_value_info(name, given, axes))
        fed_as[name] = name if given == wanted else f"cast/{name}"
        if given != wanted:
            graph.node.append(helper.make_node("Cast", [name], [fed_as[name]], to=wanted))
    for number, layer in enumerate(layers):
        prefix = f"layer{number}/"
        ends = set(layer.inputs)

        def rename(name: str, prefix: str = prefix, ends: set[str] = ends) -> str:
            if name in ends:
                return fed_as[name]
            return name if not name or name in wiring.constants else prefix + name

        for index in layer.nodes:
            node = onnx.NodeProto()
            node.CopyFrom(wiring.nodes[index])
            node.name = node.name and prefix + node.name  # a model may have several nodes without one
            used.update(node.input)
            node.input[:] = [rename(name) for name in node.input]
            node.output[:] = [name and prefix + name for name in node.output]
            graph.node.append(node)
        nodes, output = tap(layer.output, layer.dtype, _quantizer(wiring, layer), prefix=prefix, rename=rename)
        graph.node.extend(nodes)
        graph.output.append(onnx.ValueInfoProto(name=output))
    graph.initializer.extend(tensor for name, tensor in wiring.constants.items() if name in used)
    return model


def _quantizer(wiring: Wiring, layer: Layer) -> onnx.NodeProto | None:
    return None if layer.quantizer is None else wiring.nodes[layer.quantizer]


def tap(
    tensor: str, dtype: str, quantizer: onnx.NodeProto | None, *, prefix: str, rename: _Rename = str
) -> tuple[list[onnx.NodeProto], str]:
    """(Nodes that make an fp32 output of ``tensor``, rounded as ``quantizer`` rounds it where there is one; its name).

    ``dtype`` is the tensor's, as :data:`FLOAT_TYPES` has it; anything else than float32 is cast.
    """
    nodes, output = [], rename(tensor)
    if quantizer is not None:
        kept = {each.name: helper.get_attribute_value(each) for each in quantizer.attribute}
        nodes.append(
            helper.make_node(
                "DequantizeLinear",
                [rename(name) for name in (quantizer.output[0], *quantizer.input[1:])],
                [output := f"{prefix}dequantized"],
                domain=quantizer.domain,
                **{name: kept[name] for name in ("axis", "block_size") if name in kept},
            )
        )
    if dtype != "float32":
        nodes.append(helper.make_node("Cast", [output], [f"{prefix}fp32"], to=TensorProto.FLOAT))
        output = f"{prefix}fp32"
    return nodes, output


def _empty_copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model's versions and local functions, without its graph."""
    copy = onnx.ModelProto(ir_version=model.ir_version)
    copy.opset_import.extend(model.opset_import)
    copy.functions.extend(model.functions)
    copy.graph.name = model.graph.name or "layers"
    return copy


def _element_type(dtype: str) -> int:
    known = FLOAT_TYPES.get(dtype)
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)) if known is None else known)

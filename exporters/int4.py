"""fp32 .onnx -> int4 .onnx: the weights of matrix products in 4 bits, block-wise; activations stay fp32.

Each MatMul with a constant weight, and each Gemm (as torch exports nn.Linear) turned to MatMul and Add, becomes a
MatMulNBits of ONNX Runtime's own operators: blocks of ``block_size`` weights along the inputs share an fp32 scale.
Packing is ONNX Runtime's; the graph is rewritten here, because its MatMulNBitsQuantizer 1.31 writes a weight that two
nodes share twice under one name, drops the domain of nodes that hold graphs, and knows no Gemm.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporters import cleaning, onnx_file
from exporters.artifact import Artifact
from exporters.errors import BadModelFile, BadOption, NotApplicable
from exporters.finish import finish
from exporters.library_output import quiet
from exporters.model_file import ModelFile

BLOCK_SIZES = (16, 32, 64, 128, 256)
ACCURACY_LEVELS = (0, 1, 4)
_DOMAIN = "com.microsoft"
_NODE_BYTES = 400  # what the attributes, names and further initializers of a MatMulNBits take, about


@dataclass(frozen=True, kw_only=True)
class Int4Format:
    """How weights are packed and multiplied.

    ``block_size`` weights share a scale: SQNR of Gaussian weights in blocks of 16, 32, 64, 128 is 22.4, 21.3, 20.4 and
    19.7 dB at 6, 5, 4.5 and 4.25 bits each. Without ``symmetric`` a block has a zero point too: 0.5 dB for 0.125 bits
    more at 32. ``accuracy_level`` says how products are computed: 4 rounds activations to int8, block by block, which
    loses 0.02 dB and is what the fast kernels want; 1 is fp32, 0 leaves it to the provider.
    """

    block_size: int = 32
    symmetric: bool = True
    accuracy_level: int = 4

    def __post_init__(self) -> None:
        if self.block_size not in BLOCK_SIZES:
            raise BadOption(f"There is no block size of {self.block_size}.", f"Choose one of {_listed(BLOCK_SIZES)}.")
        if self.accuracy_level not in ACCURACY_LEVELS:
            raise BadOption(
                f"There is no accuracy level {self.accuracy_level}.", f"Choose one of {_listed(ACCURACY_LEVELS)}."
            )

    def __str__(self) -> str:
        kind = "symmetric" if self.symmetric else "with zero points"
        return f"4-bit weights in blocks of {self.block_size}, {kind}, accuracy level {self.accuracy_level}"


def convert(
    src: ModelFile,
    dst: Path,
    *,
    block_size: int = 32,
    symmetric: bool = True,
    accuracy_level: int = 4,
    exclude: Collection[str] = (),
) -> Artifact:
    """Write ``src``'s int4 version to ``dst``; the nodes named in ``exclude`` stay fp32.

    A product whose packed weight would not be smaller (under about 130 weights, or 5 inputs) stays fp32 as well, and so
    does one inside the graphs of If and Loop. Input features that are no multiple of the block are padded.

    Raises BadModelFile for a file that is quantized already, BadOption for a node that is not there or a format that
    does not exist, NotApplicable when no product with a constant weight is left.
    """
    form = Int4Format(block_size=block_size, symmetric=symmetric, accuracy_level=accuracy_level)
    if src.precision.startswith("int"):
        raise BadModelFile(f"{src} is {src.precision} already.", "Give the fp32 model.")
    model = src.to_convert()
    onnx_file.require_nodes(model, exclude, source=src)
    count = _rewrite(model, form, exclude)
    if not count:
        raise NotApplicable(
            f"{src} has no MatMul or Gemm with a constant weight large enough for 4 bits.",
            "Use int8, or ship the fp32 model.",
        )
    facts = {"int4_format": str(form), "int4_nodes": str(count), "fp32_nodes": ", ".join(sorted(exclude))}
    return finish(cleaning.without_dead_parts(model), dst, src=src, precision="int4", facts=facts)


def _rewrite(model: onnx.ModelProto, form: Int4Format, exclude: Collection[str]) -> int:
    """Replace the products in ``model``'s main graph; return how many."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    packed: dict[tuple[str, bool], tuple[list[str], tuple[int, int]]] = {}
    nodes: list[onnx.NodeProto] = []
    count = 0
    for node in graph.node:
        weight = None if node.name in exclude else _weight_of(node, constants, form)
        if weight is None:
            nodes.append(node)
            continue
        count += 1
        key = (node.input[1], _transposed(node))
        if key not in packed:
            packed[key] = (_store(graph, weight, node.input[1] + (".T" if key[1] else ""), form), weight.shape)
        nodes.extend(_product(node, *packed[key], form))
    del graph.node[:]
    graph.node.extend(nodes)
    if count and not any(entry.domain == _DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    return count


def _weight_of(
    node: onnx.NodeProto, constants: dict[str, TensorProto], form: Int4Format
) -> npt.NDArray[np.float32] | None:
    """The constant ``(K, N)`` that ``node`` multiplies by, None where there is none or 4 bits do not suit it."""
    if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in constants:
        return None
    tensor = constants[node.input[1]]
    if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) != 2:
        return None
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if given.get("transA", 0) or given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0:
        return None
    values: npt.NDArray[np.float32] = numpy_helper.to_array(tensor)
    if not np.isfinite(values).all():
        return None
    values = np.ascontiguousarray(values.T) if _transposed(node) else values
    inputs, outputs = values.shape
    blocks = -(-inputs // form.block_size)
    smaller = outputs * blocks * (form.block_size // 2 + 4 + (not form.symmetric)) + _NODE_BYTES
    return values if smaller < values.nbytes else None


def _transposed(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "transB" and attribute.i for attribute in node.attribute)


def _store(graph: onnx.GraphProto, weight: npt.NDArray[np.float32], name: str, form: Int4Format) -> list[str]:
    """Add the packed weight, its scales and, when there are any, zero points; return their names."""
    made = _pack(weight, form)
    parts = dict(zip((f"{name}.int4", f"{name}.scales", f"{name}.zero_points"), made, strict=True))
    if form.symmetric:
        del parts[f"{name}.zero_points"]
    graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in parts.items())
    return list(parts)


def _product(node: onnx.NodeProto, packed: list[str], shape: tuple[int, int], form: Int4Format) -> list[onnx.NodeProto]:
    """MatMulNBits in ``node``'s place, and an Add for a Gemm's third input."""
    has_bias = len(node.input) > 2 and bool(node.input[2])
    made = f"{node.output[0]}.product" if has_bias else node.output[0]
    attributes: dict[str, Any] = {"K": shape[0], "N": shape[1], "bits": 4, "block_size": form.block_size}
    if form.accuracy_level:
        attributes["accuracy_level"] = form.accuracy_level
    product = helper.make_node(
        "MatMulNBits", [node.input[0], *packed], [made], name=node.name, domain=_DOMAIN, **attributes
    )
    if not has_bias:
        return [product]
    return [product, helper.make_node("Add", [made, node.input[2]], list(node.output), name=f"{node.name}.bias")]


def _pack(weight: npt.NDArray[np.float32], form: Int4Format) -> tuple[npt.NDArray[np.generic], ...]:
    """``weight`` ``(K, N)`` as nibbles ``(N, blocks, block_size / 2)``, scales ``(N, blocks)`` and zero points."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with quiet():
        from onnxruntime.quantization.matmul_nbits_quantizer import (
            DefaultWeightOnlyQuantConfig,
            DefaultWeightOnlyQuantizer,
        )
    root.handlers[:] = handlers  # importing it calls logging.basicConfig: every library's INFO would reach stderr
    root.setLevel(level)
    config = DefaultWeightOnlyQuantConfig(block_size=form.block_size, is_symmetric=form.symmetric, bits=4)
    packed: tuple[npt.NDArray[np.generic], ...] = DefaultWeightOnlyQuantizer(config).qbits_block_quant(weight)
    return packed


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))

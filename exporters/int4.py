"""fp32 .onnx -> int4 .onnx: the weights of matrix products in 4 bits, block-wise; activations stay fp32.

Each product with a constant weight, however the graph spells it (:mod:`exporters.products`), becomes a MatMulNBits of
ONNX Runtime's own operators: blocks of ``block_size`` weights along the inputs share an fp32 scale
(:mod:`exporters.blocks`). The graph is rewritten here, because ONNX Runtime's MatMulNBitsQuantizer 1.31 writes a weight
that two nodes share twice under one name, drops the domain of nodes that hold graphs, and knows no Gemm.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from exporters import blocks, cleaning, embeddings, onnx_file
from exporters.artifact import Artifact
from exporters.embeddings import Table
from exporters.errors import BadModelFile, BadOption, NotApplicable
from exporters.finish import finish, sparing
from exporters.model_file import ModelFile
from exporters.products import Product, bias_nodes, has_bias, product_of, ranks_of
from exporters.rounding import rounded
from exporters.weights import (
    CONTRIB,
    Array,
    Key,
    Names,
    Scope,
    digest,
    import_contrib,
    require_finite,
    scopes_of,
)  # fmt: skip

BLOCK_SIZES = (16, 32, 64, 128, 256)
ACCURACY_LEVELS = (0, 1, 4)
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


@sparing
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

    A product whose packed weight would not be smaller (under about 130 weights, or 5 inputs) stays fp32 as well. Input
    features that are no multiple of the block are padded. Tables of which rows are looked up become int8
    (:mod:`exporters.embeddings`). Products and tables inside the graphs of If and Loop count too.

    Raises BadModelFile for a file that is quantized already or a weight that is not finite, BadOption for a node that
    is not there or a format that does not exist, NotApplicable when no product with a constant weight is left.
    """
    form = Int4Format(block_size=block_size, symmetric=symmetric, accuracy_level=accuracy_level)
    if src.precision.startswith("int"):
        raise BadModelFile(f"{src} is {src.precision} already.", "Give the fp32 model.")
    model = src.to_convert()
    onnx_file.require_nodes(model, exclude, source=src)
    made = _Int4Graph(model, form, exclude, source=src)
    if not made.count:
        raise NotApplicable(
            f"{src} has no MatMul or Gemm with a constant weight large enough for 4 bits.",
            "Use int8, or ship the fp32 model.",
        )
    import_contrib(model)
    facts = {"int4_format": str(form), "int4_nodes": str(made.count), "fp32_nodes": ", ".join(sorted(exclude))}
    notes = (f"{made.tables} tables of rows in int8",) if made.tables else ()
    return finish(cleaning.without_dead_parts(model), dst, src=src, precision="int4", facts=facts, notes=notes)


class _Int4Graph:
    """``model``, changed: ``count`` products have weights in 4 bits, ``tables`` lookups rows in 8."""

    def __init__(self, model: onnx.ModelProto, form: Int4Format, exclude: Collection[str], *, source: object) -> None:
        self._form, self._source = form, source
        self._names, self._ranks = Names(model), ranks_of(model)
        self._packed: dict[tuple[int, str], list[str]] = {}
        self._rows: dict[Key, tuple[str, str]] = {}
        self.count = self.tables = 0
        for scope in reversed(scopes_of(model)):  # a node is copied with its graphs
            nodes = [made for node in scope.graph.node for made in self._turned(node, scope, exclude)]
            del scope.graph.node[:]
            scope.graph.node.extend(nodes)

    def _turned(self, node: onnx.NodeProto, scope: Scope, exclude: Collection[str]) -> list[onnx.NodeProto]:
        if node.name in exclude:
            return [node]
        product = product_of(node, scope, self._ranks)
        if product is not None and (matrix := product.matrix()).ndim == 2 and self._pays(matrix):
            require_finite(matrix, product.weight.name, node.name, self._source)
            self.count += 1
            return self._product(product, matrix.astype(np.float32), scope)
        table = embeddings.table_of(node, scope)
        if table is not None and embeddings.pays(table):
            require_finite(table.weight.values(), table.weight.name, node.name, self._source)
            self.tables += 1
            return embeddings.lookup(table, *self._table(table), self._names)
        return [node]

    def _pays(self, matrix: Array) -> bool:
        inputs, outputs = matrix.shape
        form, blocks = self._form, -(-inputs // self._form.block_size)
        smaller = outputs * blocks * (form.block_size // 2 + 4 + (not form.symmetric)) + _NODE_BYTES
        return bool(smaller < matrix.nbytes)

    def _product(self, product: Product, matrix: Array, scope: Scope) -> list[onnx.NodeProto]:
        """MatMulNBits in the node's place, after a Transpose of its activation and before the Add of its bias."""
        node, nodes, given = product.node, list[onnx.NodeProto](), product.activation
        result, form, fresh = node.output[0], self._form, self._names.fresh
        if product.turns_activation:
            given = fresh(f"{result}.turned")
            turn = helper.make_node("Transpose", [product.activation], [given], name=fresh(f"{node.name}.turned"))
            turn.attribute.append(helper.make_attribute("perm", [1, 0]))
            nodes.append(turn)
        end = fresh(f"{result}.product") if has_bias(product) else result
        attributes: dict[str, Any] = {"K": matrix.shape[0], "N": matrix.shape[1], "bits": 4}
        attributes["block_size"] = form.block_size
        if form.accuracy_level:
            attributes["accuracy_level"] = form.accuracy_level
        stored = self._stored(product, matrix)
        nodes.append(
            helper.make_node("MatMulNBits", [given, *stored], [end], name=node.name, domain=CONTRIB, **attributes)
        )
        return [*nodes, *bias_nodes(product, end, scope, self._names)] if has_bias(product) else nodes

    def _stored(self, product: Product, matrix: Array) -> list[str]:
        """The names of the packed weight, its scales and, when there are any, zero points: kept once."""
        owner, matrix = product.weight.owner, matrix * np.float32(product.alpha)
        key = id(owner), digest(matrix)
        if key not in self._packed:
            name = product.weight.name + (".T" if product.turns_weight else "")
            made = blocks.rounded(matrix, self._form.block_size, symmetric=self._form.symmetric)
            parts: dict[str, Array] = {"int4": made.nibbles, "scales": made.scales}
            if not self._form.symmetric:
                parts["zero_points"] = made.packed_zero_points
            self._packed[key] = [owner.add(self._names.fresh(f"{name}.{part}"), array) for part, array in parts.items()]
        return self._packed[key]

    def _table(self, table: Table) -> tuple[str, str]:
        """The names of a table's rows in int8 and of their scales: kept once."""
        weight = table.weight
        if weight.key not in self._rows:
            values, scales = rounded(weight.values(), (1,))
            stored = weight.owner.add(self._names.fresh(f"{weight.name}.int8"), values)
            self._rows[weight.key] = stored, weight.owner.add(self._names.fresh(f"{weight.name}.row_scales"), scales)
        return self._rows[weight.key]


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))

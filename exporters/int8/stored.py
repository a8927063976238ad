"""Where a model's int8 weights are kept: each once, however many nodes read it and in whatever way."""

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from exporters.embeddings import Table
from exporters.int8.targets import Int8Format
from exporters.products import Product
from exporters.rounding import FULL, REDUCED, rounded
from exporters.weights import Array, Names, Scope, Weight, digest

_MIDDLE = 128
"""The zero point of symmetric uint8 weights."""
_Key = tuple[int, str]
"""The graph that owns a weight, and its values."""


class Stored:
    """The int8 weights of ``products`` and ``tables``, made as they are asked for.

    A table whose rows are the columns of a product's matrix is an embedding that is the last layer too: it is kept
    once, as the Gather reads it, and transposed when the runtime loads the file.
    """

    def __init__(
        self, int8: Int8Format, names: Names, products: Collection[Product], tables: Collection[Table]
    ) -> None:
        self._int8, self._names = int8, names
        self._largest = REDUCED if int8.reduce_range else FULL
        self._made: dict[tuple[object, ...], tuple[str, ...]] = {}
        self._first: dict[int, list[onnx.NodeProto]] = {}
        self._tied = _ties(products, tables) if int8.weight == "int8" and int8.per_channel else set[_Key]()

    def first(self, scope: Scope) -> list[onnx.NodeProto]:
        """The nodes that prepare weights of ``scope``: they come before all others."""
        return self._first.get(id(scope), [])

    def matrix(self, product: Product) -> tuple[str, str]:
        """The names of ``product``'s ``(..., K, N)`` in 8 bits, and of its scales times alpha."""
        owner, matrix = product.weight.owner, product.matrix()
        key = _key(owner, matrix)
        if ("matrix", key) not in self._made:
            tied = _key(owner, matrix.T) if matrix.ndim == 2 else None
            if tied in self._tied:
                self._made["matrix", key] = self._turned(owner, *self.rows(product.weight, matrix.T))
            else:
                self._made["matrix", key] = self._add_matrix(product.weight, matrix)
        values, scales = self._made["matrix", key]
        return values, scales if product.alpha == 1.0 else self._scaled(owner, scales, product.alpha)

    def rows(self, weight: Weight, rows: Array) -> tuple[str, str]:
        """The names of a table's ``rows`` in 8 bits, and of their scales ``(rows, 1)``."""
        key = _key(weight.owner, rows)
        if ("rows", key) not in self._made:
            largest = self._largest if key in self._tied else FULL
            self._made["rows", key] = self._add(weight, *rounded(rows, (1,), largest))
        values, scales = self._made["rows", key]
        return values, scales

    def loaded(self, weight: Weight, axis: int) -> str:
        """The name of ``weight`` as the runtime takes it back to float; rounded along ``axis``, its inputs."""
        key = "loaded", _key(weight.owner, weight.values()), axis
        if key not in self._made:
            values, scales = self._add(weight, *rounded(weight.values(), (axis,)))
            wide, made = self._names.fresh(f"{weight.name}.cast"), self._names.fresh(f"{weight.name}.loaded")
            self._before(weight.owner, "Cast", [values], wide, to=TensorProto.FLOAT)
            self._before(weight.owner, "Mul", [wide, scales], made)
            self._made[key] = (made,)
        return self._made[key][0]

    def middle(self, scope: Scope) -> str:
        """The zero point of uint8 weights."""
        key = "middle", id(scope)
        if key not in self._made:
            self._made[key] = (scope.add(self._names.fresh("weight_zero_point"), np.array(_MIDDLE, np.uint8)),)
        return self._made[key][0]

    def _add_matrix(self, weight: Weight, matrix: Array) -> tuple[str, str]:
        values, scales = rounded(matrix, (-2,) if self._int8.per_channel else None, self._largest)
        # one scale, or one for each column, is what the runtime's kernels take
        scales = scales.reshape(()) if scales.size == 1 else scales.reshape(-1) if matrix.ndim == 2 else scales
        if self._int8.weight == "uint8":
            return self._add(weight, (values.astype(np.int16) + _MIDDLE).astype(np.uint8), scales)
        return self._add(weight, values, scales)

    def _turned(self, owner: Scope, values: str, scales: str) -> tuple[str, str]:
        """``values`` ``(N, K)`` as ``(K, N)`` and ``scales`` ``(N, 1)`` as ``(N,)``, by nodes that run at loading."""
        turned, flat = self._names.fresh(f"{values}.turned"), self._names.fresh(f"{scales}.flat")
        shape = owner.add(self._names.fresh(f"{scales}.shape"), np.array([-1]))
        self._before(owner, "Transpose", [values], turned, perm=[1, 0])
        self._before(owner, "Reshape", [scales, shape], flat)
        return turned, flat

    def _scaled(self, owner: Scope, scales: str, alpha: float) -> str:
        key = "scaled", id(owner), scales, alpha
        if key not in self._made:
            factor = owner.add(self._names.fresh(f"{scales}.alpha"), np.array(alpha, np.float32))
            made = self._names.fresh(f"{scales}.scaled")
            self._before(owner, "Mul", [scales, factor], made)
            self._made[key] = (made,)
        return self._made[key][0]

    def _add(self, weight: Weight, values: Array, scales: Array) -> tuple[str, str]:
        made = self._names.fresh(f"{weight.name}.{values.dtype}"), self._names.fresh(f"{weight.name}.scales")
        return weight.owner.add(made[0], values), weight.owner.add(made[1], scales)

    def _before(self, owner: Scope, operator: str, inputs: list[str], made: str, **attributes: Any) -> None:
        name = self._names.fresh(f"{made}.node")
        node = helper.make_node(operator, inputs, [made], name=name, **attributes)
        self._first.setdefault(id(owner), []).append(node)


def _ties(products: Collection[Product], tables: Collection[Table]) -> set[_Key]:
    """The tables whose rows are the columns of a product's matrix too."""
    shapes = {table.weight.shape for table in tables}
    alike = [each for each in products if {each.weight.shape, each.weight.shape[::-1]} & shapes]
    columns = {_key(each.weight.owner, each.matrix().T) for each in alike}
    return columns & {_key(table.weight.owner, table.weight.values()) for table in tables} if columns else set()


def _key(owner: Scope, values: Array) -> _Key:
    return id(owner), digest(values)

"""A graph whose weights become int8, node by node."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from exporters import embeddings
from exporters.embeddings import Table
from exporters.int8 import recurrent
from exporters.int8.stored import Stored
from exporters.int8.targets import Int8Format
from exporters.products import Product, bias_nodes, has_bias, product_of, ranks_of
from exporters.weights import Key, Names, Scope, Weight, is_standard, reads_of, require_finite, scopes_of

_LOADED_BYTES = 200
"""What a Cast and a Mul take."""


@dataclass(frozen=True, kw_only=True)
class _Lstm:
    node: onnx.NodeProto
    weights: tuple[Weight, Weight]


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """A node that computes in float; its ``weights``, by their places, are int8 in the file only."""

    node: onnx.NodeProto
    weights: dict[int, Weight]


_Plan = Product | Table | _Loaded | _Lstm
_Planned = list[tuple[onnx.NodeProto, _Plan | None]]
_Activations = dict[str, tuple[str, str, str]]
"""Tensor -> what it is in uint8, its scale and its zero point."""


class IntegerGraph:
    """``model``, changed: ``count`` nodes have int8 weights; ``left`` are names of others by why they stayed in float.

    Without ``products`` only lookups and recurrent nodes are: static int8 has its own way with the others.
    Raises BadModelFile for a weight to be rounded that is not finite.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        int8: Int8Format,
        exclude: Collection[str],
        *,
        source: object,
        products: bool = True,
    ) -> None:
        self._int8, self._source, self._products = int8, source, products
        self._names, scopes = Names(model), scopes_of(model)
        self.left: dict[str, list[str]] = {}
        planned = self._planned(scopes, exclude, ranks_of(model))
        plans = [plan for found in planned for _, plan in found if plan is not None]
        self.count = len(plans)
        multiplied = [plan for plan in plans if isinstance(plan, Product)]
        tables = [plan for plan in plans if isinstance(plan, Table)]
        self._stored = Stored(int8, self._names, multiplied, tables)
        for scope, found in reversed(list(zip(scopes, planned, strict=True))):  # a node is copied with its graphs
            nodes = self._rewritten(scope, found)
            del scope.graph.node[:]
            scope.graph.node.extend([*self._stored.first(scope), *nodes])

    def _planned(self, scopes: list[Scope], exclude: Collection[str], ranks: dict[str, int]) -> list[_Planned]:
        """What to do with each node of each graph, None for nothing."""
        found = [[(node, self._plan(node, scope, ranks)) for node in scope.graph.node] for scope in scopes]
        chosen: list[_Planned] = []
        kept = reads_of(scopes)
        for nodes in found:
            chosen.append([])
            for node, plan in nodes:
                if plan is None or node.name in exclude:
                    chosen[-1].append((node, None))
                else:
                    kept.subtract(weight.key for weight in _weights_of(plan))
                    chosen[-1].append((node, self._finite(plan)))
        return [[(node, self._if_smaller(plan, kept)) for node, plan in nodes] for nodes in chosen]

    def _if_smaller(self, plan: _Plan | None, kept: Counter[Key]) -> _Plan | None:
        """``plan``; None for one that saves nothing but bytes, and would not, as others need the float weight."""
        if isinstance(plan, Table | _Loaded) and any(kept[weight.key] > 0 for weight in _weights_of(plan)):
            return self._tell(plan.node, "others need its weight in float")
        return plan

    def _plan(self, node: onnx.NodeProto, scope: Scope, ranks: dict[str, int]) -> _Plan | None:
        if self._products and (product := product_of(node, scope, ranks)):
            return product
        if table := embeddings.table_of(node, scope):
            if not np.isfinite(table.weight.values()).all():
                return self._tell(node, "its table holds infinities")
            return table if embeddings.pays(table) else self._tell(node, "too small to pay")
        if weights := recurrent.weights_of(node, scope):
            if recurrent.has_kernel(node, self._int8):
                return _Lstm(node=node, weights=weights)
            return _Loaded(node=node, weights=dict(zip(recurrent.WEIGHTS, weights, strict=True)))
        if not self._products:
            return None
        if is_standard(node, "MatMul") and (left := scope.find(node.input[0])) and left.is_float:
            if scope.find(node.input[1]) or len(left.shape) < 2 or 3 * left.size < _LOADED_BYTES:
                return self._tell(node, "too small to pay")
            return _Loaded(node=node, weights={0: left})
        if is_standard(node, "MatMul") and scope.find(node.input[1]):
            return self._tell(node, "its weight is a vector")
        if is_standard(node, "Conv", "ConvTranspose") and scope.find(node.input[1]):
            return self._tell(node, f"{node.op_type} has no fast dynamic kernel")
        return None

    def _tell(self, node: onnx.NodeProto, why: str) -> _Plan | None:
        """No plan, and a word about it."""
        self.left.setdefault(why, []).append(node.name)
        return None

    def _finite(self, plan: _Plan) -> _Plan:
        for weight in _weights_of(plan):
            require_finite(weight.values(), weight.name, plan.node.name, self._source)
        return plan

    def _rewritten(self, scope: Scope, found: _Planned) -> list[onnx.NodeProto]:
        activations: _Activations = {}
        nodes: list[onnx.NodeProto] = []
        for node, plan in found:
            match plan:
                case Product():
                    nodes += self._product(plan, scope, activations)
                case Table():
                    stored = self._stored.rows(plan.weight, plan.weight.values())
                    nodes += embeddings.lookup(plan, *stored, self._names)
                case _Lstm():
                    nodes.append(recurrent.quantized(node, plan.weights, self._int8, self._names))
                case _Loaded():
                    for index, weight in plan.weights.items():
                        node.input[index] = self._stored.loaded(weight, axis=-1)
                    nodes.append(node)
                case None:
                    nodes.append(node)
        return nodes

    def _product(self, product: Product, scope: Scope, activations: _Activations) -> list[onnx.NodeProto]:
        """The activation in uint8, unless a product before had it, times the weight, and back to float."""
        name, result, fresh = product.node.name, product.node.output[0], self._names.fresh
        given, nodes = product.activation, list[onnx.NodeProto]()
        if product.turns_activation:
            given = fresh(f"{result}.turned")
            name_of_turn = fresh(f"{name}.turned")
            nodes.append(helper.make_node("Transpose", [product.activation], [given], name=name_of_turn, perm=[1, 0]))
        if given not in activations:
            made = fresh(f"{given}.uint8"), fresh(f"{given}.scale"), fresh(f"{given}.zero_point")
            nodes.append(helper.make_node("DynamicQuantizeLinear", [given], made, name=fresh(f"{name}.quantized")))
            activations[given] = made
        values, scale, zero_point = activations[given]
        weight, scales = self._stored.matrix(product)
        inputs = [values, weight, zero_point, *([self._stored.middle(scope)] if self._int8.weight == "uint8" else [])]
        total, wide, both = fresh(f"{result}.int32"), fresh(f"{result}.sum"), fresh(f"{result}.scale")
        end = fresh(f"{result}.product") if has_bias(product) else result
        nodes += [
            helper.make_node("MatMulInteger", inputs, [total], name=name),
            helper.make_node("Cast", [total], [wide], name=fresh(f"{name}.cast"), to=TensorProto.FLOAT),
            helper.make_node("Mul", [scale, scales], [both], name=fresh(f"{name}.scales")),
            helper.make_node("Mul", [wide, both], [end], name=fresh(f"{name}.scaled")),
        ]
        return [*nodes, *bias_nodes(product, end, scope, self._names)] if has_bias(product) else nodes


def lookups_and_recurrent(model: onnx.ModelProto) -> list[str]:
    """The names of the nodes of the main graph whose weights become int8 without ``products``."""
    scope = scopes_of(model)[0]
    return [node.name for node in scope.graph.node if _looks_up(node, scope) or recurrent.weights_of(node, scope)]


def _looks_up(node: onnx.NodeProto, scope: Scope) -> bool:
    table = embeddings.table_of(node, scope)
    return table is not None and embeddings.pays(table)


def _weights_of(plan: _Plan) -> list[Weight]:
    match plan:
        case Product() | Table():
            return [plan.weight]
        case _Lstm():
            return list(plan.weights)
        case _Loaded():
            return list(plan.weights.values())

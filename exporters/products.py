"""Products of an activation with a constant matrix, however the graph spells them."""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from exporters import skeleton
from exporters.operators import attributes_of
from exporters.weights import CONTRIB, Array, Names, Scope, Weight, is_standard


@dataclass(frozen=True, kw_only=True)
class Product:
    """``alpha * (activation @ matrix) + beta * bias``.

    ``activation`` is transposed first where ``turns_activation``, the weight, of shape ``(..., K, N)`` or its reverse,
    where ``turns_weight``. ``bias`` is empty for none. ``squeezed`` says that the weight's leading axes, all of length
    1, change nothing and may be left out.
    """

    node: onnx.NodeProto
    activation: str
    weight: Weight
    turns_weight: bool = False
    turns_activation: bool = False
    alpha: float = 1.0
    bias: str = ""
    beta: float = 1.0
    squeezed: bool = False

    def matrix(self) -> Array:
        """The weight as ``(..., K, N)``."""
        values = self.weight.values()
        values = values.reshape(values.shape[-2:]) if self.squeezed else values
        return np.ascontiguousarray(values.T) if self.turns_weight else values


def product_of(node: onnx.NodeProto, scope: Scope, ranks: dict[str, int]) -> Product | None:
    """What ``node`` multiplies by a constant of two axes or more on the right; None for all else.

    ``ranks`` are those of activations, as far as they are known.
    """
    if not is_standard(node, "MatMul", "Gemm") and (node.op_type, node.domain) != ("FusedMatMul", CONTRIB):
        return None
    weight, turned = scope.seen(node.input[1]) or (None, False)
    if weight is None or not weight.is_float or len(weight.shape) < 2 or not weight.size or scope.seen(node.input[0]):
        return None
    given = attributes_of(node)
    turns = turned != bool(given.get("transB", 0))
    if node.op_type == "Gemm":
        return Product(
            node=node,
            activation=node.input[0],
            weight=weight,
            turns_weight=turns,
            turns_activation=bool(given.get("transA", 0)),
            alpha=given.get("alpha", 1.0),
            bias=node.input[2] if len(node.input) > 2 else "",
            beta=given.get("beta", 1.0),
        )
    if any(given.get(name) for name in ("transA", "transBatchA", "transBatchB")) or (turns and len(weight.shape) > 2):
        return None
    rank = ranks.get(node.input[0], 0)
    squeezed = len(weight.shape) > 2 and set(weight.shape[:-2]) == {1} and rank >= len(weight.shape)
    return Product(
        node=node,
        activation=node.input[0],
        weight=weight,
        turns_weight=turns,
        alpha=given.get("alpha", 1.0),
        squeezed=squeezed,
    )


def bias_nodes(product: Product, made: str, scope: Scope, names: Names) -> list[onnx.NodeProto]:
    """The Add that ends ``product`` after ``made``; none where it has no bias, as :func:`has_bias` says."""
    node, bias, nodes = product.node, product.bias, []
    if product.beta != 1.0:
        constant = scope.find(bias)
        if constant is not None:
            scaled = (constant.values() * np.float32(product.beta)).astype(np.float32)
            bias = constant.owner.add(names.fresh(f"{bias}.scaled"), scaled)
        else:
            factor = scope.add(names.fresh(f"{node.output[0]}.beta"), np.array(product.beta, np.float32))
            scaled_bias = names.fresh(f"{node.output[0]}.bias")
            nodes.append(helper.make_node("Mul", [bias, factor], [scaled_bias], name=names.fresh(f"{node.name}.beta")))
            bias = scaled_bias
    add = helper.make_node("Add", [made, bias], list(node.output), name=names.fresh(f"{node.name}.bias"))
    return [*nodes, add]


def has_bias(product: Product) -> bool:
    """Whether something is added to the product."""
    return bool(product.bias) and product.beta != 0.0


def ranks_of(model: onnx.ModelProto) -> dict[str, int]:
    """How many axes each tensor has, where that follows from the model; in nested graphs too."""
    try:
        inferred = skeleton.inferred(model, data_prop=False)
    except (onnx.shape_inference.InferenceError, ValueError):
        return {}
    found: dict[str, int] = {}
    for graph in skeleton.graphs_of(inferred.graph):
        for value in (*graph.input, *graph.value_info, *graph.output):
            if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
                rank = len(value.type.tensor_type.shape.dim)
                found[value.name] = min(rank, found.get(value.name, rank))  # branches may use a name twice
    return found

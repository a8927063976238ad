"""Products in the form that int8 has kernels for, before anything is measured. The function stays the same.

1. Gemm's alpha and beta go into its weight and its bias.
2. A bias of shape (), (1,) or (1, N) becomes (N,); any other is added behind the Gemm.
3. A MatMul's weight (1, ..., K, N) becomes (K, N) where the input has as many axes: a matrix may have a scale for each
   column, a stack of them not.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from exporters import cleaning, skeleton
from exporters.int8 import operators
from exporters.large_weights import array_of, tensor_of
from exporters.operators import attribute
from exporters.weights import Names

_BIAS = 2


def plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` (shapes inferred) with its products in that form; the model itself where they are already."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    rewriter = _Rewriter(copy)
    nodes = [made for node in list(copy.graph.node) for made in rewriter.rewritten(node)]
    if not rewriter.changed:
        return model
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return skeleton.shaped(cleaning.named(cleaning.without_dead_parts(copy)))


class _Rewriter:
    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.graph, self.changed, self._names = graph, False, Names(model)
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._ranks = {
            value.name: len(value.type.tensor_type.shape.dim)
            for value in (*graph.input, *graph.value_info, *graph.output)
            if value.type.tensor_type.HasField("shape")
        }

    def rewritten(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """``node``, changed, and what follows it now."""
        if node.domain not in ("", "ai.onnx"):
            return [node]
        if node.op_type == "MatMul":
            self._flatten_stack(node)
        elif node.op_type == "Gemm" and self._float(node.input[1]) is not None:
            return self._plain_gemm(node)
        return [node]

    def _plain_gemm(self, gemm: onnx.NodeProto) -> list[onnx.NodeProto]:
        alpha, beta = (_factor(gemm, name) for name in ("alpha", "beta"))
        bias = operators.bias_of(gemm)
        values = self._float(bias)
        if alpha != 1.0:
            weight = self._float(gemm.input[1])
            assert weight is not None
            gemm.input[1] = self._constant(f"{gemm.input[1]}.times_alpha", weight * np.float32(alpha))
        if bias and values is None and beta != 1.0:  # of a bias that is computed: Gemm keeps it all
            return self._with_addition(gemm, bias, beta)
        outputs = self._outputs_of(gemm)
        if values is not None and (beta != 1.0 or values.shape != (outputs,)):
            if values.ndim > 1 and values.shape[0] != 1:
                return self._with_addition(gemm, bias, beta)
            spread = np.broadcast_to(values.reshape(-1) * np.float32(beta), (outputs,))
            gemm.input[_BIAS] = self._constant(f"{bias}.of_{outputs}", np.ascontiguousarray(spread))
        elif bias and values is None:
            return self._with_addition(gemm, bias, beta)
        if alpha != 1.0 or beta != 1.0:
            self._drop_factors(gemm)
        return [gemm]

    def _with_addition(self, gemm: onnx.NodeProto, bias: str, beta: float) -> list[onnx.NodeProto]:
        made, product = gemm.output[0], self._names.fresh(f"{gemm.output[0]}.product")
        del gemm.input[_BIAS:]
        gemm.output[0] = product
        self._drop_factors(gemm)
        nodes = [gemm]
        if beta != 1.0:
            factor, scaled = (
                self._constant(f"{bias}.beta", np.array(beta, np.float32)),
                self._names.fresh(f"{bias}.scaled"),
            )
            nodes.append(helper.make_node("Mul", [bias, factor], [scaled]))
            bias = scaled
        return [*nodes, helper.make_node("Add", [product, bias], [made])]

    def _drop_factors(self, gemm: onnx.NodeProto) -> None:
        kept = [item for item in gemm.attribute if item.name not in ("alpha", "beta")]
        del gemm.attribute[:]
        gemm.attribute.extend(kept)
        self.changed = True

    def _outputs_of(self, gemm: onnx.NodeProto) -> int:
        dims = self._constants[gemm.input[1]].dims
        return int(dims[0] if attribute(gemm, "transB", 0) else dims[1])

    def _flatten_stack(self, product: onnx.NodeProto) -> None:
        weight = self._float(product.input[1])
        rank = self._ranks.get(product.input[0], 0)
        if weight is None or weight.ndim < 3 or any(axis != 1 for axis in weight.shape[:-2]) or rank < weight.ndim:
            return
        product.input[1] = self._constant(f"{product.input[1]}.matrix", weight.reshape(weight.shape[-2:]))

    def _float(self, name: str) -> np.ndarray | None:
        tensor = self._constants.get(name)
        if tensor is None or tensor.data_type != TensorProto.FLOAT:
            return None
        return array_of(tensor)

    def _constant(self, wanted: str, values: np.ndarray) -> str:
        self.changed = True
        known = self._constants.get(wanted)
        if known is not None and np.array_equal(array_of(known), values):
            return wanted  # made for another reader of the same constant
        name = self._names.fresh(wanted)
        self.graph.initializer.append(tensor_of(values.astype(np.float32), name))
        self._constants[name] = self.graph.initializer[-1]
        return name


def _factor(gemm: onnx.NodeProto, name: str) -> float:
    value = attribute(gemm, name, 1.0)
    assert isinstance(value, float | int)
    return float(value)

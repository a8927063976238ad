"""Products are rewritten into forms of the same function: checked by onnx's reference, which optimizes nothing."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from exporters.int8 import operators, products
from exporters.operators import attribute

RANDOM = np.random.default_rng(0)


def model(node: onnx.NodeProto, x: tuple[int, ...], **constants: np.ndarray) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()]
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)]
    made = helper.make_graph(
        [node], "g", values, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], tensors
    )
    return onnx.shape_inference.infer_shapes(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)]))


def output(made: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    (found,) = ReferenceEvaluator(made).run(None, {"x": x})
    return np.asarray(found)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([-1.0, 0.25, 1.0, 2.0]),
    st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    st.booleans(),
    st.sampled_from([None, (), (1,), (1, 6), (6,), (4, 1), (4, 6), (1, 1)]),
)
def test_a_gemm_stays_the_same_function(
    alpha: float, beta: float, transposed: bool, shape: tuple[int, ...] | None
) -> None:
    bias = {} if shape is None else {"b": RANDOM.normal(size=shape)}
    node = helper.make_node("Gemm", ["x", "w", *bias], ["y"], "gemm", alpha=alpha, beta=beta, transB=int(transposed))
    given_model = model(node, (4, 5), w=RANDOM.normal(size=(6, 5) if transposed else (5, 6)), **bias)
    made = products.plain(given_model)
    x = RANDOM.normal(size=(4, 5)).astype(np.float32)
    assert output(made, x) == pytest.approx(output(given_model, x), abs=1e-5)
    gemm = next(each for each in made.graph.node if each.op_type == "Gemm")
    assert gemm.name == "gemm"
    assert [attribute(gemm, name, 1.0) for name in ("alpha", "beta")] == [1.0, 1.0] or not bias
    dims = {tensor.name: tuple(tensor.dims) for tensor in made.graph.initializer}
    assert dims.get(operators.bias_of(gemm), (6,)) == (6,)


@pytest.mark.parametrize(
    ("weight", "x", "matrix"),
    [
        ((1, 5, 6), (2, 3, 5), True),
        ((1, 1, 5, 6), (2, 3, 4, 5), True),
        ((3, 5, 6), (3, 2, 5), False),
        ((1, 5, 6), (4, 5), False),
    ],
    ids=["one", "one, four axes", "three", "an input of fewer axes"],
)
def test_a_stack_of_one_matrix_is_a_matrix(weight: tuple[int, ...], x: tuple[int, ...], matrix: bool) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    given_model = model(node, x, w=RANDOM.normal(size=weight))
    made = products.plain(given_model)
    values = RANDOM.normal(size=x).astype(np.float32)
    right, found = output(given_model, values), output(made, values)
    assert found.shape == right.shape
    assert found == pytest.approx(right, abs=1e-5)
    assert (len(made.graph.initializer[0].dims) == 2) == matrix


def test_what_is_plain_is_not_touched() -> None:
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], "gemm")
    given_model = model(node, (4, 5), w=RANDOM.normal(size=(5, 6)), b=RANDOM.normal(size=6))
    assert products.plain(given_model) is given_model

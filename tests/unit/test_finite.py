"""Weights that are no numbers are named; masks and markers are not weights."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from exporters.errors import BadModelFile
from exporters.finite import require_finite
from tests.unit.half.test_emulation import FLOAT, model_of, tensor

FULL = np.ones((8, 8), np.float32)


def spoiled(*values: float) -> np.ndarray:
    made = FULL.copy()
    made.reshape(-1)[: len(values)] = values
    return made


@pytest.mark.parametrize(
    ("values", "said"), [((np.nan, np.inf), "2 values that are"), ((-np.inf,), "a value that is")]
)  # fmt: skip
@pytest.mark.parametrize("operator", ["MatMul", "Gemm"])
def test_a_weight_that_is_no_number_is_named(operator: str, values: tuple[float, ...], said: str) -> None:
    node = helper.make_node(operator, ["x", "w"], ["y"])
    model = model_of([node], [tensor("x", FLOAT)], [tensor("y", FLOAT)], {"w": spoiled(*values)})
    with pytest.raises(BadModelFile, match=f"weight 'w' in m.onnx has {said} NaN or infinite"):
        require_finite(model, "m.onnx")


def test_in_a_branch_too() -> None:
    product = helper.make_node("MatMul", ["x", "w"], ["b"])
    branches = {
        f"{name}_branch": helper.make_graph(
            [product], name, [], [tensor("b", FLOAT)],
            model_of([], [], [], {"w": spoiled(np.nan) if name == "else" else FULL}).graph.initializer,
        )
        for name in ("then", "else")
    }  # fmt: skip
    node = helper.make_node("If", ["flag"], ["y"], **branches)
    inputs = [tensor("x", FLOAT), tensor("flag", TensorProto.BOOL, ())]
    with pytest.raises(BadModelFile, match="weight 'w'"):
        require_finite(model_of([node], inputs, [tensor("y", FLOAT)], {}), "m.onnx")


@pytest.mark.parametrize(
    ("operator", "inputs", "constant"),
    [
        ("Add", ["x", "c"], spoiled(-np.inf)),
        ("Where", ["flag", "x", "c"], spoiled(np.nan)),
        ("Max", ["x", "c"], np.float32(np.nan)),
        ("MatMul", ["x", "c"], spoiled(float(np.finfo(np.float32).max))),
    ],
)
def test_masks_markers_and_large_numbers_pass(operator: str, inputs: list[str], constant: np.ndarray) -> None:
    given = [tensor("x", FLOAT), tensor("flag", TensorProto.BOOL)]
    model = model_of([helper.make_node(operator, inputs, ["y"])], given, [tensor("y", FLOAT)], {"c": constant})
    require_finite(model, "m.onnx")

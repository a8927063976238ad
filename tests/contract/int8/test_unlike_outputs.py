"""Outputs whose channels differ 16-fold and more, and masks that stand far from everything else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exporters.calibration import activations
from tests.contract.int8.test_awkward_graphs import graph, node, weights
from tests.contract.int8.test_qdq import converted, samples_for

FAR = np.array([300.0, 20.0, 1.0, 0.05])


def kernel(far: np.ndarray, inputs: int) -> np.ndarray:
    return np.asarray(weights(w=(len(far), inputs, 1, 1))["w"] * far.reshape(-1, 1, 1, 1))


def a_conv_at_the_end() -> onnx.ModelProto:
    nodes = [node("Conv", ["x", "w"], ["h"], "stem"), node("Conv", ["h", "v"], ["y"], "last")]
    return graph(nodes, weights(w=(8, 3, 3, 3)) | {"v": kernel(FAR, 8)}, x=("batch", 3, 8, 8))


def a_conv_then_shapes() -> onnx.ModelProto:
    nodes = [
        node("Conv", ["x", "w"], ["h"], "stem"), node("Conv", ["h", "v", "b"], ["c"], "last"),
        node("Transpose", ["c"], ["t"], "turned", perm=[0, 2, 3, 1]), node("Reshape", ["t", "shape"], ["y"], "rows"),
    ]  # fmt: skip
    constants = weights(w=(8, 3, 3, 3), b=(4,)) | {"v": kernel(FAR, 8), "shape": np.array([0, -1, 4])}
    return graph(nodes, constants, x=("batch", 3, 8, 8))


def a_conv_and_a_relu() -> onnx.ModelProto:
    nodes = [
        node("Conv", ["x", "w"], ["h"], "stem"), node("ConvTranspose", ["h", "v"], ["c"], "last"),
        node("Relu", ["c"], ["y"], "relu"),
    ]  # fmt: skip
    far = FAR.reshape(1, -1, 1, 1)
    return graph(nodes, {**weights(w=(8, 3, 3, 3)), "v": weights(v=(8, 4, 1, 1))["v"] * far}, x=("batch", 3, 8, 8))


def factors_and_shifts() -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "first"), node("MatMul", ["h", "v"], ["m"], "last"),
        node("Mul", ["m", "far"], ["f"], "anchors"), node("Add", ["f", "shift"], ["y"], "shifts"),
    ]  # fmt: skip
    return graph(nodes, weights(w=(16, 8), v=(8, 4)) | {"far": FAR, "shift": np.array([5e4, 0.0, 1.0, 0.1])})


def an_output_that_goes_on() -> onnx.ModelProto:
    model = a_conv_at_the_end()
    model.graph.node.append(node("Conv", ["y", "u"], ["z"], "head"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(kernel(np.ones(3), 4).astype(np.float32), "u"))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    return model


def masked_pooling() -> onnx.ModelProto:
    nodes = [
        node("Conv", ["x", "w"], ["h"], "conv"), node("Where", ["mask", "h", "never"], ["m"], "mask"),
        node("MaxPool", ["m"], ["p"], "pool", kernel_shape=[8, 8]), node("Conv", ["p", "v"], ["y"], "last"),
    ]  # fmt: skip
    constants = weights(w=(8, 3, 1, 1), v=(4, 8, 1, 1)) | {"mask": np.arange(8) < 5, "never": np.array(-1e9)}
    return graph(nodes, constants, x=("batch", 3, 8, 8))


def masked_by_addition() -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "product"), node("Add", ["h", "mask"], ["m"], "mask"),
        node("ReduceMax", ["m", "axis"], ["p"], "pool", keepdims=1), node("Sub", ["m", "p"], ["s"], "less"),
        node("Relu", ["m"], ["r"], "relu"), node("MatMul", ["r", "v"], ["y"], "last"),
    ]  # fmt: skip
    mask = {"mask": np.where(np.arange(8) < 5, 0.0, -1e9), "axis": np.array([1])}
    return graph(nodes, weights(w=(16, 8), v=(8, 4)) | mask)


GRAPHS = {
    "a Conv at the end": a_conv_at_the_end, "a Conv, then shapes": a_conv_then_shapes,
    "a ConvTranspose and a Relu": a_conv_and_a_relu, "factors and shifts": factors_and_shifts,
    "an output that goes on": an_output_that_goes_on, "masked pooling": masked_pooling,
    "masked by addition": masked_by_addition,
}  # fmt: skip


@pytest.mark.parametrize("build", GRAPHS.values(), ids=GRAPHS)
def test_every_channel_keeps_its_own_spread(build: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    """On unseen samples, each channel of the second axis and of the last around its own mean."""
    model = build()
    made, _ = converted(model, tmp_path, samples_for(model, 1))
    assert any(each.op_type == "QuantizeLinear" for each in made.graph.node)
    tests = samples_for(model, 2)
    for right, found in zip(*(activations.open_session(each).run(None, tests) for each in (model, made)), strict=True):
        for axis in (1, right.ndim - 1):
            others = tuple(each for each in range(right.ndim) if each != axis)
            noise = np.square(right.astype(np.float64) - found).mean(axis=others)
            spread = right.astype(np.float64).var(axis=others)
            assert (noise[spread > 0] < spread[spread > 0] / 100).all()  # 20 dB

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import onnx_file
from exporters.int8 import stem_fold

Arrays = dict[str, npt.NDArray[np.float32]]


def stem_model(
    *,
    kernel: tuple[int, int] = (7, 7),
    outputs: int = 16,
    bias: bool = True,
    image: tuple[int | str, ...] = ("batch", 3, 32, 32),
    extra_nodes: tuple[onnx.NodeProto, ...] = (),
    extra_outputs: tuple[str, ...] = (),
    **attributes: Any,
) -> onnx.ModelProto:
    """image -> Conv 'stem' -> Relu -> y, with ``extra_nodes`` beside it."""
    random = np.random.default_rng(0)
    constants: Arrays = {"w": random.normal(size=(outputs, 3, *kernel)).astype(np.float32)}
    if bias:
        constants["b"] = random.normal(size=outputs).astype(np.float32)
    pads = [(size - 1) // 2 for size in kernel] * 2
    conv = helper.make_node("Conv", ["x", *constants], ["c"], "stem", **{"strides": [2, 2], "pads": pads, **attributes})
    graph = helper.make_graph(
        [conv, helper.make_node("Relu", ["c"], ["y"], "relu"), *extra_nodes],
        "stem",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in ("y", *extra_outputs)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def outputs_of(model: onnx.ModelProto, image: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    results: list[npt.NDArray[np.float32]] = session.run(None, {"x": image})
    return results


def folded(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    result = stem_fold.folded(model)
    assert result is not None
    return result


def assert_same(model: onnx.ModelProto, other: onnx.ModelProto, size: tuple[int, ...]) -> None:
    image = np.random.default_rng(1).normal(size=size).astype(np.float32)
    for wanted, got in zip(outputs_of(model, image), outputs_of(other, image), strict=True):
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).max() <= 1e-6 * np.abs(wanted).max()


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kernel", [(7, 7), (3, 3), (5, 5), (1, 1), (3, 7)], ids=str)
def test_a_folded_stem_computes_the_same(kernel: tuple[int, int], batch: int, bias: bool) -> None:
    model = stem_model(kernel=kernel, bias=bias)
    assert_same(model, folded(model)[0], (batch, 3, 32, 32))


def test_height_and_width_may_differ() -> None:
    model = stem_model(image=(2, 3, 6, 20))
    assert_same(model, folded(model)[0], (2, 3, 6, 20))


@pytest.mark.parametrize(("kernel", "taps", "pads"), [(7, 4, [2, 2, 1, 1]), (3, 2, [1, 1, 0, 0])])
def test_the_fold_is_six_shuffles_and_a_dense_conv(kernel: int, taps: int, pads: list[int]) -> None:
    model, sentence = folded(stem_model(kernel=(kernel, kernel)))
    nodes = model.graph.node
    assert [node.op_type for node in nodes] == ["Reshape", "Transpose"] * 3 + ["Conv", "Relu"]
    conv = nodes[6]
    given = {item.name: helper.get_attribute_value(item) for item in conv.attribute}
    assert (conv.name, list(conv.output)) == ("stem", ["c"])
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    shapes = {value.name: value.type.tensor_type.shape.dim for value in inferred.graph.value_info}
    assert [dim.dim_param or dim.dim_value for dim in shapes["c"]] == ["batch", 16, 16, 16]
    assert given == {"kernel_shape": [taps, taps], "pads": pads, "strides": [1, 1]}
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    assert weights[conv.input[1]] == (16, 12, taps, taps)
    assert "w" not in weights
    assert "'stem'" in sentence


def test_the_original_is_left_alone_and_folds_once() -> None:
    model = stem_model()
    before = model.SerializeToString()
    once, _ = folded(model)
    assert model.SerializeToString() == before
    assert stem_fold.folded(once) is None


def test_other_readers_keep_the_image_and_the_weight() -> None:
    same_conv = helper.make_node("Conv", ["x", "w"], ["z"], "fine", pads=[3, 3, 3, 3])
    doubled = helper.make_node("Add", ["x", "x"], ["d"], "double")
    model = stem_model(extra_nodes=(same_conv, doubled), extra_outputs=("z", "d"))
    changed, _ = folded(model)
    assert {"x", "w"} <= set(next(node for node in changed.graph.node if node.name == "fine").input)
    assert_same(model, changed, (2, 3, 32, 32))


def test_a_weight_that_is_an_output_too_stays_one() -> None:
    model = stem_model(extra_outputs=("w",))
    assert_same(model, folded(model)[0], (2, 3, 32, 32))


def test_every_stem_is_folded_though_they_share_the_weight() -> None:
    twin = helper.make_node("Conv", ["x", "w"], ["z"], strides=[2, 2], pads=[3, 3, 3, 3])
    model = stem_model(extra_nodes=(twin,), extra_outputs=("z",))
    changed, _ = folded(model)
    assert [node.op_type for node in changed.graph.node].count("Transpose") == 6
    assert_same(model, changed, (2, 3, 32, 32))


@pytest.mark.parametrize(
    "changes",
    [
        {"image": ("batch", 3, 31, 32)},
        {"image": ("batch", 3, "height", "width")},
        {"outputs": 8},
        {"outputs": 18},
        {"strides": [1, 1]},
        {"pads": [2, 2, 3, 3]},
        {"pads": [0, 0, 0, 0]},
        {"dilations": [2, 2]},
        {"kernel": (4, 4), "pads": [1, 1, 1, 1]},
    ],
    ids=str,
)
def test_what_is_no_such_stem_stays(changes: dict[str, Any]) -> None:
    model = stem_model(**changes)
    onnx.checker.check_model(model, full_check=True)
    assert stem_fold.folded(model) is None


def test_automatic_pads_stay() -> None:
    model = stem_model()
    # some exporters write pads beside it, which it overrules
    model.graph.node[0].attribute.append(helper.make_attribute("auto_pad", "SAME_UPPER"))
    assert stem_fold.folded(model) is None


def test_grouped_convs_stay() -> None:
    model = stem_model(outputs=24)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((24, 1, 7, 7), np.float32), "w"))
    model.graph.node[0].attribute.append(helper.make_attribute("group", 3))
    assert stem_fold.folded(model) is None


def test_a_weight_that_is_an_input_stays() -> None:
    model = stem_model()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [16, 3, 7, 7]))
    assert stem_fold.folded(model) is None


def test_an_image_that_passes_another_node_first_stays() -> None:
    model = stem_model()
    model.graph.node.insert(0, helper.make_node("Neg", ["x"], ["n"], "negate"))
    model.graph.node[1].input[0] = "n"
    onnx_file.check(model, step="test")
    assert stem_fold.folded(model) is None

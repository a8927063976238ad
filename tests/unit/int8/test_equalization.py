from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from exporters.errors import BadCalibrationData
from exporters.int8 import equalization

Array = npt.NDArray[Any]  # float64 until a model or a runtime takes it
CHANNELS = 8


def model_of(
    nodes: list[onnx.NodeProto],
    constants: Mapping[str, Array],
    *,
    shape: tuple[int | str, ...],
    outputs: dict[str, int],
) -> onnx.ModelProto:
    """x of ``shape`` -> ``outputs`` (name -> rank) through ``nodes``."""
    graph = helper.make_graph(
        nodes,
        "pairs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name, rank in outputs.items()],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def conv(tensor: str, output: str, *, pads: int = 0, group: int = 1, bias: bool = True) -> onnx.NodeProto:
    inputs = [tensor, f"w_{output}", *([f"b_{output}"] if bias else [])]
    return helper.make_node("Conv", inputs, [output], output, pads=[pads] * 4, group=group)


@dataclass(frozen=True)
class Unequal:
    """x -> Conv a -> [activation] -> Conv b (3 x 3, ``group``) -> Relu -> Conv c, with a's channels far apart."""

    unevenness: Array
    group: int = CHANNELS
    activation: str | None = "Relu"
    bias: bool = True
    seed: int = 0

    def model(self) -> onnx.ModelProto:
        random = np.random.default_rng(self.seed)
        factors = self.unevenness.reshape(-1, 1, 1, 1)
        b = random.normal(size=(CHANNELS, self.group, CHANNELS // self.group, 3, 3))
        # what a makes large, b reads weakly: the net as a whole is a tame one
        shape = (CHANNELS, 1, CHANNELS // self.group, 1, 1)
        sources = self.unevenness.reshape(self.group, -1)[np.arange(CHANNELS) * self.group // CHANNELS]
        constants = {
            "w_a": random.normal(size=(CHANNELS, 3, 1, 1)) * factors,
            "w_b": b[:, 0] / sources.reshape(shape)[:, 0],
            "w_c": random.normal(size=(4, CHANNELS, 1, 1)),
        }
        if self.bias:
            constants |= {"b_a": random.normal(size=CHANNELS) * self.unevenness, "b_b": random.normal(size=CHANNELS)}
        nodes = [conv("x", "a", bias=self.bias)]
        if self.activation:
            nodes.append(helper.make_node(self.activation, ["a"], ["act"], "act"))
        nodes.append(conv(self.tensor, "b", pads=1, group=self.group, bias=self.bias))
        nodes += [helper.make_node("Relu", ["b"], ["h"], "h"), conv("h", "c", bias=False)]
        return model_of(nodes, constants, shape=("batch", 3, 6, 6), outputs={"c": 4})

    @property
    def tensor(self) -> str:
        return "act" if self.activation else "a"


IMAGES = np.random.default_rng(7).normal(size=(5, 3, 6, 6)).astype(np.float32)
TOKENS = np.random.default_rng(7).normal(size=(5, 7, CHANNELS)).astype(np.float32)
GEOMETRIC = np.geomspace(1e-2, 1e2, CHANNELS).astype(np.float32)


def run(model: onnx.ModelProto, x: Array, *names: str) -> list[Array]:
    """The model's outputs, or the tensors ``names`` of it."""
    onnx.checker.check_model(model, full_check=True)
    if names:
        tapped = onnx.ModelProto()
        tapped.CopyFrom(model)
        del tapped.graph.output[:]
        tapped.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
        model = tapped
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results: list[Array] = session.run(None, {"x": x})
    return results


def maxima_of(model: onnx.ModelProto, x: Array) -> dict[str, Array]:
    found = {}
    for pair in equalization.pairs(model):
        values = np.moveaxis(np.abs(run(model, x, pair.tensor)[0]), pair.axis, 0)
        found[pair.tensor] = values.reshape(len(values), -1).max(axis=1)
    return found


def equalized(model: onnx.ModelProto, x: Array) -> tuple[onnx.ModelProto, str]:
    """With the scaled tensors under their old names again, to be compared."""
    result = equalization.equalized(model, maxima_of(model, x))
    assert result is not None
    changed, sentence = result
    for node in changed.graph.node:
        for names in (node.input, node.output):
            names[:] = [name.removesuffix(".equalized") for name in names]
    return changed, sentence


def test_scaled_tensors_are_not_taken_for_the_original_ones() -> None:
    model = Unequal(GEOMETRIC).model()
    result = equalization.equalized(model, maxima_of(model, IMAGES))
    assert result is not None
    (pair, *_) = [pair for pair in equalization.pairs(result[0]) if pair.tensor.endswith(".equalized")]
    assert pair.producer.output[0] == "b.equalized" or pair.tensor == "act.equalized"


def assert_same(model: onnx.ModelProto, other: onnx.ModelProto, x: Array) -> None:
    for wanted, got in zip(run(model, x), run(other, x), strict=True):
        assert np.abs(got - wanted).max() <= 2e-6 * np.abs(wanted).max()


def constants_of(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


logs = st.lists(st.floats(-2, 2), min_size=CHANNELS, max_size=CHANNELS)


@given(
    logs,
    st.sampled_from([1, 2, CHANNELS]),
    st.sampled_from(["Relu", "LeakyRelu", None]),
    st.booleans(),
    st.integers(0, 99),
)
def test_scaling_changes_no_result(
    unevenness: list[float], group: int, activation: str | None, bias: bool, seed: int
) -> None:
    factors = np.array([1e-3, 1e-3, 1e-3, *(10 ** np.array(unevenness))[3:]])  # uneven enough to be worth it
    unequal = Unequal(factors, group, activation, bias, seed)
    model = unequal.model()
    changed, _ = equalized(model, IMAGES)
    assert_same(model, changed, IMAGES)
    before, after = maxima_of(model, IMAGES)[unequal.tensor], maxima_of(changed, IMAGES)[unequal.tensor]
    assert equalization.spread(after) < equalization.spread(before)


def test_before_a_depthwise_conv_all_channels_get_the_same_range() -> None:
    model = Unequal(GEOMETRIC).model()
    (pair, _) = equalization.pairs(model)
    assert (pair.tensor, pair.axis, pair.producer.name, [node.name for node in pair.consumers], pair.alpha) == (
        "act", 1, "a", ["b"], 1.0,
    )  # fmt: skip
    changed, sentence = equalized(model, IMAGES)
    after = maxima_of(changed, IMAGES)["act"]
    assert after.min() == pytest.approx(after.max(), rel=1e-4)
    before = maxima_of(model, IMAGES)["act"]
    assert np.log(after).mean() == pytest.approx(np.log(before).mean(), abs=1e-4)
    was = equalization.spread(before)
    assert sentence == f"equalized 1 pair of layers; widest spread of channel maxima {was:.3g}x -> 1x"


def test_before_a_dense_conv_both_sides_share_the_spread() -> None:
    model = Unequal(GEOMETRIC, group=1).model()
    changed, _ = equalized(model, IMAGES)
    after, reach = maxima_of(changed, IMAGES)["act"], np.abs(constants_of(changed)["w_b"]).max(axis=(0, 2, 3))
    # equation 4 at alpha = 1/2: activations and weights end in the same proportion in every channel
    assert after / reach == pytest.approx(np.full(CHANNELS, after[0] / reach[0]), rel=1e-4)


def quantization_noise(model: onnx.ModelProto, tensor: str) -> float:
    """The share of the output's power that 8 bits for ``tensor``, one scale for all of it, turn into noise."""
    values = run(model, IMAGES, tensor)[0]
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    graph = quantized.graph
    position = next(index for index, node in enumerate(graph.node) if tensor in node.output) + 1
    for node in graph.node[position:]:
        node.input[:] = ["dequantized" if name == tensor else name for name in node.input]
    graph.initializer.append(numpy_helper.from_array(np.array(np.abs(values).max() / 255, np.float32), "step"))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.uint8), "zero"))
    names = ["step", "zero"]
    graph.node.insert(position, helper.make_node("QuantizeLinear", [tensor, *names], ["quantized"]))
    graph.node.insert(position + 1, helper.make_node("DequantizeLinear", ["quantized", *names], ["dequantized"]))
    wanted, got = run(model, IMAGES)[0], run(quantized, IMAGES)[0]
    return float(np.square(got - wanted).sum() / np.square(wanted).sum())


@pytest.mark.parametrize(("group", "gain"), [(CHANNELS, 100), (1, 10)], ids=["depthwise", "dense"])
def test_eight_bits_lose_less_after_it(group: int, gain: float) -> None:
    model = Unequal(GEOMETRIC, group=group).model()
    changed, _ = equalized(model, IMAGES)
    assert quantization_noise(changed, "act") * gain < quantization_noise(model, "act")


def encoder(*, gemm: bool = False, trans_b: int = 0, bias: bool = True, uneven: Array = GEOMETRIC) -> onnx.ModelProto:
    """x -> LayerNormalization -> two products with weights of their own."""
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=(CHANNELS, 4)) / np.sqrt(uneven)[:, np.newaxis] for name in ("w_q", "w_k")}
    constants: dict[str, Array] = {"gamma": uneven, "beta": uneven * random.normal(size=CHANNELS)} | {
        name: weight.T if trans_b else weight for name, weight in weights.items()
    }
    norm = ["x", "gamma", *(["beta"] if bias else [])]
    extra: dict[str, Any] = {"transB": trans_b, "alpha": 0.5} if gemm else {}
    operator, rank = ("Gemm", 2) if gemm else ("MatMul", 3)
    nodes = [
        helper.make_node("LayerNormalization", norm, ["n"], "norm", axis=-1),
        helper.make_node(operator, ["n", "w_q"], ["q"], "query", **extra),
        helper.make_node(operator, ["n", "w_k"], ["k"], "key", **extra),
    ]
    shape = ("batch", CHANNELS) if gemm else ("batch", 7, CHANNELS)
    return model_of(nodes, constants, shape=shape, outputs={"q": rank, "k": rank})


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(("gemm", "trans_b"), [(False, 0), (True, 0), (True, 1)], ids=["MatMul", "Gemm", "transB"])
def test_a_layer_norm_shares_its_spread_with_all_its_readers(gemm: bool, trans_b: int, bias: bool) -> None:
    model = encoder(gemm=gemm, trans_b=trans_b, bias=bias)
    x = TOKENS[:, 0] if gemm else TOKENS
    (pair,) = equalization.pairs(model)
    assert (pair.tensor, pair.axis, [node.name for node in pair.consumers]) == ("n", -1, ["query", "key"])
    changed, _ = equalized(model, x)
    assert_same(model, changed, x)
    before, after = (equalization.spread(maxima_of(each, x)["n"]) for each in (model, changed))
    assert after < before / 3


def test_shared_constants_are_separated() -> None:
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("LayerNormalization", ["x", "ones", "zeros"], ["n"], "first"),
        helper.make_node("MatMul", ["n", "w"], ["h"], "into"),
        helper.make_node("LayerNormalization", ["h", "ones", "zeros"], ["m"], "second"),
        helper.make_node("MatMul", ["m", "w"], ["k"], "again"),
        helper.make_node("Add", ["k", "ones"], ["y"], "add"),
    ]
    weight = random.normal(size=(CHANNELS, CHANNELS)) / np.geomspace(1, 1e4, CHANNELS)[:, np.newaxis]
    constants = {"ones": np.ones(CHANNELS), "zeros": np.zeros(CHANNELS), "w": weight}
    model = model_of(nodes, constants, shape=("batch", 7, CHANNELS), outputs={"y": 3})
    before = model.SerializeToString()
    uneven = {"n": GEOMETRIC, "m": GEOMETRIC[::-1].copy()}
    result = equalization.equalized(model, uneven)
    assert result is not None
    assert_same(model, result[0], TOKENS)
    assert model.SerializeToString() == before
    kept = constants_of(result[0])
    assert (kept["ones"] == 1).all()
    assert sum(array.shape == weight.shape for array in kept.values()) == 2


def test_silent_channels_keep_their_scale() -> None:
    model = Unequal(GEOMETRIC).model()
    maxima = maxima_of(model, IMAGES)
    maxima["act"][[1, 4]] = 0
    result = equalization.equalized(model, {"act": maxima["act"]})
    assert result is not None
    assert_same(model, result[0], IMAGES)
    for name in ("w_a", "b_a"):
        assert (constants_of(result[0])[name] == constants_of(model)[name])[[1, 4]].all()


def test_scales_are_bounded() -> None:
    model = Unequal(np.ones(CHANNELS)).model()
    result = equalization.equalized(model, {"act": np.geomspace(1e-12, 1e12, CHANNELS)})
    assert result is not None
    ratio = constants_of(result[0])["w_a"] / constants_of(model)["w_a"]
    assert ratio.max() == pytest.approx(1e3)
    assert ratio.min() == pytest.approx(1e-3)
    assert_same(model, result[0], IMAGES)


def test_pairs_that_are_even_are_left_alone() -> None:
    model = Unequal(np.ones(CHANNELS)).model()
    assert equalization.pairs(model)
    assert equalization.equalized(model, maxima_of(model, IMAGES)) is None
    assert equalization.equalized(model, {}) is None
    assert equalization.equalized(model, {"act": np.zeros(CHANNELS)}) is None


@pytest.mark.parametrize(
    "maxima",
    [np.ones(CHANNELS + 1), np.ones((1, CHANNELS)), np.full(CHANNELS, np.nan), -np.ones(CHANNELS)],
    ids=["too many", "another rank", "NaN", "negative"],
)
def test_maxima_that_do_not_fit_are_refused(maxima: Array) -> None:
    with pytest.raises(BadCalibrationData, match="'act'"):
        equalization.equalized(Unequal(GEOMETRIC).model(), {"act": maxima})


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30), st.floats(1e-2, 1e2))
def test_spread_is_a_ratio(maxima: list[float], factor: float) -> None:
    values = np.array(maxima)
    found = equalization.spread(values)
    assert 1 <= found <= values.max() / values.min() * (1 + 1e-9)
    assert equalization.spread(np.append(values * factor, 0.0)) == pytest.approx(found)


def tensors_of(model: onnx.ModelProto) -> list[str]:
    return [pair.tensor for pair in equalization.pairs(model)]


@pytest.mark.parametrize("activation", ["HardSwish", "Sigmoid", "Clip", "Relu6"])
def test_other_activations_part_a_pair(activation: str) -> None:
    if activation == "Relu6":
        model = Unequal(GEOMETRIC, activation="Clip").model()
        model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "low"))
        model.graph.initializer.append(numpy_helper.from_array(np.array(6, np.float32), "high"))
        model.graph.node[1].input.extend(["low", "high"])
    else:
        model = Unequal(GEOMETRIC, activation=activation).model()
    onnx.checker.check_model(model, full_check=True)
    assert tensors_of(model) == ["h"]


def test_an_output_or_a_second_reader_parts_a_pair() -> None:
    model = Unequal(GEOMETRIC).model()
    assert tensors_of(model) == ["act", "h"]
    for name in ("a", "act"):
        exposed = Unequal(GEOMETRIC).model()
        exposed.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4))
        assert tensors_of(exposed) == ["h"]
        read = Unequal(GEOMETRIC).model()
        read.graph.node.append(helper.make_node("Add", [name, name], ["sum"], "sum"))
        read.graph.output.append(helper.make_tensor_value_info("sum", TensorProto.FLOAT, [None] * 4))
        assert tensors_of(read) == ["h"]


def test_a_reader_in_a_nested_graph_parts_a_pair() -> None:
    model = encoder()
    branch = helper.make_graph(
        [helper.make_node("Identity", ["n"], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, [None] * 3)],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(helper.make_node("If", ["yes"], ["z"], "if", then_branch=branch, else_branch=branch))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [None] * 3))
    onnx.checker.check_model(model, full_check=True)
    assert tensors_of(model) == []


def test_a_residual_beside_a_layer_norm_parts_a_pair() -> None:
    model = encoder()
    model.graph.node.append(helper.make_node("Add", ["n", "x"], ["r"], "residual"))
    model.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, [None] * 3))
    assert tensors_of(model) == []


def test_a_gemm_that_adds_its_own_input_parts_a_pair() -> None:
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gamma"], ["n"], "norm"),
        helper.make_node("Gemm", ["n", "w", "n"], ["y"], "gemm"),
    ]
    constants: dict[str, Array] = {"gamma": GEOMETRIC, "w": np.eye(CHANNELS)}
    assert tensors_of(model_of(nodes, constants, shape=("batch", CHANNELS), outputs={"y": 2})) == []


def test_the_mean_that_a_layer_norm_gives_beside_is_no_pair() -> None:
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gamma"], ["n", "mean"], "norm"),
        helper.make_node("MatMul", ["mean", "w"], ["y"], "product"),
    ]
    model = model_of(nodes, {"gamma": np.ones(1), "w": np.ones((1, 4))}, shape=("batch", 1), outputs={"n": 2, "y": 2})
    assert tensors_of(model) == []


def test_a_weight_that_is_an_input_parts_a_pair() -> None:
    model = Unequal(GEOMETRIC).model()
    model.graph.input.append(helper.make_tensor_value_info("w_b", TensorProto.FLOAT, [CHANNELS, 1, 3, 3]))
    assert tensors_of(model) == []


def test_a_product_with_a_convs_output_is_no_pair() -> None:
    nodes = [conv("x", "a", bias=False), helper.make_node("MatMul", ["a", "w"], ["y"], "product")]
    constants = {"w_a": np.ones((6, 3, 1, 1)), "w": np.ones((6, 4))}
    assert tensors_of(model_of(nodes, constants, shape=("batch", 3, 6, 6), outputs={"y": 4})) == []

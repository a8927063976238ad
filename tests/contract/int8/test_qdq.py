"""The Q/DQ inserter: ONNX Runtime's own numbers where those are right, and right where its quantizer is not."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from exporters.calibration import activations
from exporters.calibration import data as calibration_data
from exporters.calibration.statistics import collect
from exporters.int8 import operators, preparation, qdq, targets
from exporters.int8.static import StaticInt8, StaticOptions
from exporters.model_file import ModelFile
from tests.contract.int8.test_awkward_graphs import graph, node, weights
from tests.contract.int8.test_int8_static import prepared
from tests.contract.tiny_models import MODELS

VNNI = targets.named("x86-vnni")
RANDOM = np.random.default_rng(3)


def by_the_library(model: onnx.ModelProto, ranges: dict[str, tuple[np.float32, np.float32]]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    quantizer = QDQQuantizer(
        copy, True, False, QuantType.QInt8, QuantType.QUInt8, TensorsData(CalibrationMethod.MinMax, ranges), [],
        qdq.nodes_in_float(model, VNNI), sorted(operators.KNOWN), {"WeightSymmetric": True},
    )  # fmt: skip
    quantizer.quantize_model()
    made: onnx.ModelProto = quantizer.model.model
    return made


@pytest.mark.parametrize("name", ["residual", "mlp", "casting"])
def test_weights_biases_and_kernels_are_the_library_s(name: str, exported: Callable[[str], Path]) -> None:
    model, samples = prepared(exported(name)), MODELS[name].samples(40)
    digest = calibration_data.check(samples, model, source="test")
    ranges = collect(model, samples, data_sha256=digest).ranges()
    ours = qdq.inserted(model, ranges, int8=VNNI)
    theirs = by_the_library(model, {key: (np.float32(each.low), np.float32(each.high)) for key, each in ranges.items()})

    def integers(made: onnx.ModelProto) -> Counter[tuple[int, tuple[int, ...], bytes]]:
        kinds = (TensorProto.INT8, TensorProto.INT32)
        tensors = [each for each in made.graph.initializer if each.data_type in kinds and len(each.dims)]
        arrays = [(each.data_type, numpy_helper.to_array(each)) for each in tensors]
        return Counter((kind, array.shape, array.tobytes()) for kind, array in arrays if array.any())

    def computing(made: onnx.ModelProto) -> Counter[str]:
        return Counter(each.op_type for each in made.graph.node if "Linear" not in each.op_type)

    assert integers(ours) == integers(theirs)
    assert computing(ours) == computing(theirs)


def branch(name: str, operator: str) -> onnx.GraphProto:
    made = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    return helper.make_graph([node(operator, ["h"], [name], f"{operator} inside")], name, [], [made])


def a_branch_reads_a_product() -> onnx.ModelProto:
    nodes = [
        node("Gemm", ["x", "w", "b"], ["h"], "gemm"), node("Relu", ["h"], ["r"], "relu"),
        node("If", ["yes"], ["i"], "if", then_branch=branch("t", "Neg"), else_branch=branch("e", "Abs")),
        node("Add", ["i", "r"], ["s"], "sum"), node("MatMul", ["s", "v"], ["y"], "second"),
    ]  # fmt: skip
    return graph(nodes, weights(w=(16, 8), b=(8,), v=(8, 4)) | {"yes": np.array(True)})


def names_that_quantizers_use() -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["x", "w"], ["x_scale"], "x_QuantizeLinear"), node("Relu", ["x_scale"], ["w_quantized"], "relu"),
        node("MatMul", ["w_quantized", "w"], ["x_QuantizeLinear_Output"], "w_DequantizeLinear"),
        node("Neg", ["x_QuantizeLinear_Output"], ["x_zero_point"], "neg"),
        node("MatMul", ["x_zero_point", "w"], ["y"], "last"),
    ]  # fmt: skip
    return graph(nodes, weights(w=(16, 16)))


def one_kernel_for_both_ways() -> onnx.ModelProto:
    nodes = [node("Conv", ["x", "w"], ["h"], "down"), node("ConvTranspose", ["h", "w"], ["y"], "up")]
    kernel = weights(w=(8, 3, 3, 3))["w"] * np.exp(RANDOM.normal(size=(8, 1, 1, 1)))
    return graph(nodes, {"w": kernel}, x=("batch", 3, 8, 8))


def one_bias_for_all() -> onnx.ModelProto:
    nodes = [
        node("Conv", ["x", "w", "b"], ["b0"], "first"), node("Conv", ["b0", "w", "b"], ["b1"], "second"),
        node("Relu", ["b1"], ["b2"], "relu"), node("Conv", ["b2", "v", "b"], ["y"], "third"),
    ]  # fmt: skip
    return graph(nodes, weights(w=(4, 4, 2, 2), v=(4, 4, 2, 2), b=(4,)), x=("batch", 4, 8, 8))


def gemm_variants() -> onnx.ModelProto:
    nodes = [
        node("Gemm", ["x", "w", "b"], ["h"], "both", alpha=2.0, beta=0.5, transB=1),
        node("Gemm", ["h", "v", "c"], ["i"], "row", alpha=0.25), node("Relu", ["i"], ["r"], "relu"),
        node("Gemm", ["r", "u"], ["j"], "minus", alpha=-1.0), node("Gemm", ["j", "t", "k"], ["z"], "scalar", beta=3.0),
        node("Gemm", ["z", "s", "h"], ["y"], "computed bias", beta=2.0),
    ]  # fmt: skip
    shapes = weights(w=(12, 16), b=(12,), v=(12, 8), c=(1, 8), u=(8, 8), t=(8, 6), s=(6, 12))
    return graph(nodes, shapes | {"k": np.array(0.7)})


def stacks_of_matrices() -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "one"), node("Relu", ["h"], ["r"], "relu"),
        node("Unsqueeze", ["r", "axis"], ["u"], "heads"), node("MatMul", ["u", "v"], ["m"], "many"),
        node("MatMul", ["m", "vector"], ["y"], "vector"),
    ]  # fmt: skip
    constants = weights(w=(1, 16, 12), v=(4, 12, 6), vector=(6,)) | {"axis": np.array([1])}
    return graph(nodes, constants, x=("batch", 1, 16))


def a_constant_on_the_left() -> onnx.ModelProto:
    nodes = [node("MatMul", ["w", "x"], ["h"], "left"), node("Relu", ["h"], ["y"], "relu")]
    return graph(nodes, weights(w=(12, 16)), x=("batch", 16, 5))


def raw_and_clipped() -> onnx.ModelProto:
    nodes = [node("Gemm", ["x", "w", "b"], ["y"], "gemm"), node("Clip", ["y", "low", "high"], ["z"], "clip")]
    model = graph(nodes, weights(w=(16, 4), b=(4,)) | {"low": np.array(0.0), "high": np.array(1.0)})
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    return model


def boxes_and_scores() -> onnx.ModelProto:
    nodes = [
        node("Conv", ["x", "w"], ["h"], "stem"), node("Conv", ["h", "v"], ["b"], "boxes"),
        node("Mul", ["b", "far"], ["f"], "pixels"), node("Conv", ["h", "u"], ["s"], "scores"),
        node("Sigmoid", ["s"], ["p"], "chances"), node("Concat", ["f", "p"], ["c"], "concat", axis=1),
        node("Reshape", ["c", "shape"], ["y"], "reshape"),
    ]  # fmt: skip
    constants = weights(w=(8, 3, 3, 3), v=(4, 8, 1, 1), u=(5, 8, 1, 1))
    constants |= {"far": np.array(200.0), "shape": np.array([0, 9, -1])}
    return graph(nodes, constants, x=("batch", 3, 8, 8))


def masked(least: float) -> Callable[[], onnx.ModelProto]:
    def build() -> onnx.ModelProto:
        nodes = [
            node("MatMul", ["x", "w"], ["h"], "scores"), node("Where", ["mask", "zero", "never"], ["m"], "mask"),
            node("Add", ["h", "m"], ["s"], "masked"), node("Softmax", ["s"], ["p"], "softmax"),
            node("MatMul", ["p", "v"], ["y"], "values"),
        ]  # fmt: skip
        mask = {"mask": np.arange(8) < 5, "never": np.array(least), "zero": np.array(0.0)}
        return graph(nodes, weights(w=(16, 8), v=(8, 4)) | mask)

    return build


def padded_with_infinity() -> onnx.ModelProto:
    nodes = [
        node("Conv", ["x", "w"], ["h"], "conv"), node("Pad", ["h", "pads", "never"], ["q"], "pad"),
        node("MaxPool", ["q"], ["m"], "pool", kernel_shape=[3, 3], strides=[2, 2]),
        node("Conv", ["m", "v"], ["y"], "last"),
    ]  # fmt: skip
    constants = weights(w=(8, 3, 3, 3), v=(4, 8, 1, 1))
    constants |= {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "never": np.array(-np.inf)}
    return graph(nodes, constants, x=("batch", 3, 9, 9))


def an_input_that_is_an_output() -> onnx.ModelProto:
    model = graph([node("MatMul", ["x", "w"], ["y"], "product")], weights(w=(16, 8)))
    model.graph.output.append(model.graph.input[0])
    return model


GRAPHS = {
    "a branch reads a product": a_branch_reads_a_product, "names that quantizers use": names_that_quantizers_use,
    "one kernel for Conv and ConvTranspose": one_kernel_for_both_ways, "one bias for all": one_bias_for_all,
    "Gemm's variants": gemm_variants, "stacks of matrices": stacks_of_matrices,
    "a constant on the left": a_constant_on_the_left, "raw and clipped": raw_and_clipped,
    "boxes and scores": boxes_and_scores, "a mask of -inf": masked(-np.inf), "a mask of -1e4": masked(-1e4),
    "a mask of finfo.min": masked(float(np.finfo(np.float32).min)), "padded with -inf": padded_with_infinity,
    "an input that is an output": an_input_that_is_an_output,
}  # fmt: skip


def samples_for(model: onnx.ModelProto, seed: int) -> dict[str, np.ndarray]:
    dims = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim][1:]
    return {"x": np.random.default_rng(seed).normal(size=(64, *dims)).astype(np.float32)}


def converted(model: onnx.ModelProto, folder: Path, samples: dict[str, np.ndarray]) -> tuple[onnx.ModelProto, str]:
    """(Its static int8 version, the notes on it)."""
    onnx.save(model, folder / "m.onnx")
    options = StaticOptions(skip=frozenset({"equalization", "bias-correction"}))
    ready = StaticInt8(ModelFile(folder / "m.onnx"), samples=samples, int8=VNNI, options=options)
    made = ready.write(folder / "q.onnx")
    return ModelFile(made.path).proto, " ".join(made.notes)


@pytest.mark.parametrize("name", GRAPHS)
def test_every_channel_of_every_output_stays_near(name: str, tmp_path: Path) -> None:
    """On unseen samples, each channel of axis 1 by its own power."""
    model = GRAPHS[name]()
    made, _ = converted(model, tmp_path, samples_for(model, 1))
    tests = samples_for(model, 2)
    for right, found in zip(*(activations.open_session(each).run(None, tests) for each in (model, made)), strict=True):
        others = tuple(axis for axis in range(right.ndim) if axis != 1)
        noise = np.square(right.astype(np.float64) - found).sum(axis=others)
        assert (noise < np.square(right.astype(np.float64)).sum(axis=others) / 100).all()  # 20 dB


def test_a_weight_that_two_products_read_is_stored_once(tmp_path: Path) -> None:
    made, _ = converted(names_that_quantizers_use(), tmp_path, samples_for(names_that_quantizers_use(), 1))
    stored = [each for each in made.graph.initializer if each.data_type == TensorProto.INT8 and len(each.dims) == 2]
    assert len(stored) == 1


def test_a_state_that_never_moved_stays_in_float_and_is_named(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["a"], "input"), node("MatMul", ["state", "v"], ["c"], "recurrent"),
        node("Add", ["a", "c"], ["s"], "sum"), node("Tanh", ["s"], ["y"], "tanh"),
    ]  # fmt: skip
    model = graph(nodes, weights(w=(16, 8), v=(8, 8)))
    model.graph.input.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, ["batch", 8]))
    samples = samples_for(model, 1) | {"state": np.zeros((64, 8), np.float32)}
    made, notes = converted(model, tmp_path, samples)
    assert "'state' never changes" in notes
    moved = samples_for(model, 2) | {"state": RANDOM.normal(size=(64, 8)).astype(np.float32)}
    right, found = (activations.open_session(each).run(None, moved)[0] for each in (model, made))
    assert np.square(right - found).sum() < np.square(right).sum() / 1000


@pytest.mark.parametrize("step", ["with_symbolic_shapes", "_optimized"])
@pytest.mark.parametrize("error", [AttributeError, IndexError, TypeError, AssertionError, RuntimeError])
def test_a_library_step_that_fails_is_left_out(
    step: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime's shape inference raises AttributeError at a string constant, IndexError at F.normalize."""

    def fail(model: onnx.ModelProto) -> onnx.ModelProto:
        raise error("of the library's own")

    monkeypatch.setattr(preparation, step, fail)
    model = gemm_variants()
    made, _ = converted(model, tmp_path, samples_for(model, 1))
    assert any(each.op_type == "QuantizeLinear" for each in made.graph.node)

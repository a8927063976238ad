"""Legitimate graphs that trip quantizers: each becomes int8 near enough, or is refused in one clear sentence."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import onnx_file, provenance
from exporters.errors import BadCalibrationData, ExporterError, NotConvertible
from exporters.half import fp16
from exporters.int8 import dynamic as int8_dynamic
from exporters.int8 import targets
from exporters.int8.evidence import Evidence
from exporters.int8.static import StaticInt8, StaticOptions
from exporters.model_file import ModelFile
from runtimes.session_settings import SessionSettings
from toolchain.conversion import settings_search

VNNI = targets.named("x86-vnni")
RANDOM = np.random.default_rng(0)
node = helper.make_node


def weights(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {name: (random.normal(size=shape) / max(1, shape[-1]) ** 0.5) for name, shape in shapes.items()}


def graph(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    *,
    x: tuple[str | int, ...] = ("batch", 16),
    y: tuple[str | int, ...] | None = None,
    opset: int = 20,
) -> onnx.ModelProto:
    """x -> y through ``nodes``; what is not fp32 among the constants keeps its type."""
    tensors = [
        numpy_helper.from_array(array.astype(np.float32) if array.dtype == np.float64 else array, name)
        for name, array in constants.items()
    ]
    values = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, x),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, y),
    ]
    made = helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def samples_for(model: onnx.ModelProto, count: int = 64) -> dict[str, np.ndarray]:
    axes = [axis.dim_value or 0 for axis in model.graph.input[0].type.tensor_type.shape.dim]
    return {"x": RANDOM.normal(size=(count, *axes[1:])).astype(np.float32)}


def quantized(model: onnx.ModelProto, folder: Path, *, skip: frozenset[str] = frozenset(), count: int = 64) -> float:
    """SQNR in dB of the static int8 version on its own samples."""
    path = folder / "m.onnx"
    onnx.save(model, path)
    samples = samples_for(model, count)
    ready = StaticInt8(ModelFile(path), samples=samples, int8=VNNI, options=StaticOptions(skip=skip))  # type: ignore[arg-type]
    made = ready.write(folder / "q.onnx")
    onnx_file.check(ModelFile(made.path).proto, step="test")
    return Evidence(ModelFile(path).proto, samples).sqnr_db(ModelFile(made.path).proto)


def gemm_relu() -> onnx.ModelProto:
    nodes = [node("Gemm", ["x", "w", "b"], ["h"], "gemm"), node("Relu", ["h"], ["y"], "relu")]
    return graph(nodes, weights(w=(16, 8), b=(8,)))


def gemm_clip() -> onnx.ModelProto:
    nodes = [node("Gemm", ["x", "w", "b"], ["h"], "gemm"), node("Clip", ["h", "low", "high"], ["y"], "clip")]
    return graph(nodes, weights(w=(16, 8), b=(8,)) | {"low": np.array(-1.0), "high": np.array(1.0)})


def gemm_with_factors(beta: float) -> onnx.ModelProto:
    nodes = [
        node("Gemm", ["x", "w", "b"], ["h"], "first", beta=beta),
        node("MatMul", ["h", "v"], ["y"], "second"),
    ]
    return graph(nodes, weights(w=(16, 12), b=(12,), v=(12, 8)))


def clip_above_zero() -> onnx.ModelProto:
    nodes = [
        node("Conv", ["x", "w"], ["h"], "first", pads=[1, 1, 1, 1]),
        node("Clip", ["h", "low", "high"], ["c"], "clip"),
        node("Conv", ["c", "v"], ["y"], "second"),
    ]
    constants = weights(w=(16, 3, 3, 3), v=(8, 16, 1, 1)) | {"low": np.array(1.0), "high": np.array(6.0)}
    return graph(nodes, constants, x=("batch", 3, 8, 8))


def masked_scores() -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "scores"),
        node("Where", ["mask", "h", "never"], ["m"], "mask"),
        node("Softmax", ["m"], ["p"], "softmax"),
        node("MatMul", ["p", "v"], ["y"], "values"),
    ]
    mask = {"mask": np.arange(8) < 5, "never": np.array(-np.inf)}
    return graph(nodes, weights(w=(16, 8), v=(8, 4)) | mask)


def scalar_inside() -> onnx.ModelProto:
    nodes = [
        node("ReduceMax", ["x"], ["top"], "top", keepdims=0),
        node("Div", ["x", "top"], ["h"], "scale"),
        node("MatMul", ["h", "w"], ["y"], "product"),
    ]
    return graph(nodes, weights(w=(16, 8)))


def branches() -> onnx.ModelProto:
    outer = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    then = helper.make_graph([node("Identity", ["h"], ["z"])], "then", [], [outer])
    other = helper.make_graph([node("Neg", ["h"], ["z"])], "else", [], [outer])
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "product"),
        node("If", ["yes"], ["i"], "if", then_branch=then, else_branch=other),
        node("MatMul", ["i", "v"], ["y"], "second"),
    ]
    return graph(nodes, weights(w=(16, 8), v=(8, 4)) | {"yes": np.array(True)})


def constants_as_nodes() -> onnx.ModelProto:
    weight = numpy_helper.from_array(weights(w=(16, 8))["w"].astype(np.float32))
    nodes = [node("Constant", [], ["w"], "const", value=weight), node("MatMul", ["x", "w"], ["y"], "product")]
    return graph(nodes, {})


def weights_as_inputs() -> onnx.ModelProto:
    model = graph([node("MatMul", ["x", "w"], ["y"], "product")], weights(w=(16, 8)))
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [16, 8]))
    return model


def unnamed() -> onnx.ModelProto:
    nodes = [node("MatMul", ["x", "w"], ["h"], "Relu_1"), node("Relu", ["h"], ["r"]), node("MatMul", ["r", "v"], ["y"])]
    return graph(nodes, weights(w=(16, 8), v=(8, 4)))


def grouped_transposed() -> onnx.ModelProto:
    nodes = [
        node("Conv", ["x", "w"], ["h"], "conv"),
        node("ConvTranspose", ["h", "v"], ["y"], "up", group=2, strides=[2, 2]),
    ]
    return graph(nodes, weights(w=(4, 3, 1, 1), v=(4, 3, 2, 2)), x=("batch", 3, 8, 8))


def norm_in_parts() -> onnx.ModelProto:
    nodes = [
        node("ReduceMean", ["x"], ["m"], "mean", axes=[-1]),
        node("Sub", ["x", "m"], ["d"], "centre"),
        node("Pow", ["d", "two"], ["s"], "square"),
        node("ReduceMean", ["s"], ["v"], "variance", axes=[-1]),
        node("Add", ["v", "eps"], ["e"], "guard"),
        node("Sqrt", ["e"], ["q"], "root"),
        node("Div", ["d", "q"], ["n"], "norm"),
        node("MatMul", ["n", "w"], ["y"], "product"),
    ]
    return graph(nodes, weights(w=(16, 8)) | {"two": np.array(2.0), "eps": np.array(1e-5)}, opset=13)


@pytest.mark.parametrize(
    "build",
    [
        gemm_relu, gemm_clip, lambda: gemm_with_factors(2.0), lambda: gemm_with_factors(0.1), clip_above_zero,
        masked_scores, scalar_inside, branches, constants_as_nodes, weights_as_inputs, unnamed, grouped_transposed,
        norm_in_parts,
    ],
    ids=[
        "output of a Relu", "output of a Clip", "Gemm, beta 2", "Gemm, beta 0.1", "Clip above 0", "-inf in a mask",
        "a scalar inside", "If", "weights in Constant nodes", "weights that are inputs", "names missing and taken",
        "grouped ConvTranspose", "norm in parts",
    ],
)  # fmt: skip
@pytest.mark.parametrize("skip", [frozenset(), frozenset({"bias-correction"})], ids=["corrected", "plain"])
def test_int8_stays_near(build: Callable[[], onnx.ModelProto], skip: frozenset[str], tmp_path: Path) -> None:
    assert quantized(build(), tmp_path, skip=skip) > 25


def test_a_relu_at_the_output_still_clips(tmp_path: Path) -> None:
    model = gemm_relu()
    quantized(model, tmp_path)
    outputs = Evidence(ModelFile(tmp_path / "q.onnx").proto, samples_for(model))._session.run(None, samples_for(model))
    assert outputs[0].min() == 0


@pytest.mark.parametrize("batch", [1, 4, 32])
def test_a_fixed_batch_is_corrected_on_as_many_samples_as_a_dynamic_one(batch: int, tmp_path: Path) -> None:
    shapes = {"x": (batch, 16), "y": (batch, 8)}
    assert quantized(graph(gemm_relu().graph.node, weights(w=(16, 8), b=(8,)), **shapes), tmp_path) > 25  # type: ignore[arg-type]


def test_fewer_samples_than_a_fixed_batch_are_refused(tmp_path: Path) -> None:
    model = graph(list(gemm_relu().graph.node), weights(w=(16, 8), b=(8,)), x=(128, 16), y=(128, 8))
    with pytest.raises(BadCalibrationData, match="takes 128 at a time"):
        quantized(model, tmp_path, count=64)


def test_a_chosen_token_gets_a_range_of_its_own(tmp_path: Path) -> None:
    """A float Gather takes one token; the others, 50 times larger, do not decide its scale."""
    nodes = [
        node("LayerNormalization", ["x", "one"], ["n"], "norm"),
        node("Mul", ["n", "loud"], ["l"], "louder"),
        node("Gather", ["l", "first"], ["t"], "token", axis=1),
        node("MatMul", ["t", "w"], ["y"], "product"),
    ]
    loud = np.array([1, 50, 50, 50, 50], np.float32)[:, None]
    constants = weights(w=(16, 8)) | {"one": np.ones(16), "loud": loud, "first": np.array(0)}
    assert quantized(graph(nodes, constants, x=("batch", 5, 16)), tmp_path) > 35


@pytest.mark.parametrize("convert", ["static", "dynamic"])
def test_an_opset_that_is_too_old_is_raised_and_that_is_said(convert: str, tmp_path: Path) -> None:
    model = graph([node("Gemm", ["x", "w"], ["y"], "gemm")], weights(w=(16, 8)), opset=11)
    onnx.save(model, tmp_path / "m.onnx")
    src, dst = ModelFile(tmp_path / "m.onnx"), tmp_path / "q.onnx"
    if convert == "static":
        made = StaticInt8(src, samples=samples_for(model), int8=VNNI).write(dst)
    else:
        made = int8_dynamic.convert(src, dst, int8=VNNI)
    assert made.opset == 13
    assert "its opset was raised from 11 to 13" in made.notes


def test_a_custom_operator_is_one_sentence(tmp_path: Path) -> None:
    model = graph(
        [node("Gemm", ["x", "w"], ["h"], "g"), node("Foo", ["h"], ["y"], "f", domain="my")], weights(w=(16, 8))
    )
    model.opset_import.append(helper.make_opsetid("my", 1))
    with pytest.raises(NotConvertible, match="Foo"):
        quantized(model, tmp_path)


def test_no_float_weights_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ExporterError, match="no fp32 weights"):
        quantized(graph([node("Relu", ["x"], ["y"], "relu")], {}), tmp_path)


def test_a_node_that_was_merged_can_be_excluded_by_its_old_name(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "w"], ["h"], "fc"), node("Add", ["h", "b"], ["y"], "bias")]
    model = graph([*nodes, node("MatMul", ["x", "v"], ["z"], "other")], weights(w=(16, 8), b=(8,), v=(16, 4)))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    onnx.save(model, tmp_path / "m.onnx")
    ready = StaticInt8(ModelFile(tmp_path / "m.onnx"), samples=samples_for(model), int8=VNNI)
    made = ModelFile(ready.write(tmp_path / "q.onnx", exclude=["fc"]).path).proto
    floats = [tensor for tensor in made.graph.initializer if tensor.data_type == TensorProto.FLOAT]
    assert any(tuple(tensor.dims) == (16, 8) for tensor in floats)


def test_a_float_constant_beyond_half_precision_stays(tmp_path: Path) -> None:
    constant = node("Constant", [], ["k"], "k", value_float=1e6)
    nodes = [constant, node("Mul", ["x", "k"], ["h"], "up"), node("Div", ["h", "k"], ["d"], "down")]
    model = graph([*nodes, node("MatMul", ["d", "w"], ["y"], "product")], weights(w=(16, 8)))
    onnx.save(model, tmp_path / "m.onnx")
    made = fp16.convert(ModelFile(tmp_path / "m.onnx"), tmp_path / "h.onnx")
    assert Evidence(ModelFile(tmp_path / "m.onnx").proto, samples_for(model)).sqnr_db(ModelFile(made.path).proto) > 40


def test_settings_measured_on_one_file_are_not_inherited(tmp_path: Path) -> None:
    onnx.save(gemm_relu(), tmp_path / "m.onnx")
    settings_search.store(ModelFile(tmp_path / "m.onnx"), SessionSettings(graph_level="basic"))
    made = fp16.convert(ModelFile(tmp_path / "m.onnx"), tmp_path / "h.onnx")
    assert "session_settings" not in provenance.read(ModelFile(made.path).proto)


def test_unread_weights_do_not_stay_in_the_file(tmp_path: Path) -> None:
    quantized(gemm_with_factors(1.0), tmp_path)
    made = ModelFile(tmp_path / "q.onnx").proto.graph
    assert {tensor.name for tensor in made.initializer} <= {name for each in made.node for name in each.input}

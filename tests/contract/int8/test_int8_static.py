"""Static int8: what stays float, the steps that improve it, and their evidence."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from exporters import onnx_file
from exporters.calibration import activations
from exporters.calibration import data as calibration_data
from exporters.calibration.statistics import collect
from exporters.calibration.thresholds import METHODS, Method
from exporters.errors import BadOption
from exporters.int8 import bias_correction, qdq, targets
from exporters.int8 import preparation as int8_preparation
from exporters.int8.evidence import Evidence
from exporters.int8.segments import Segments
from exporters.int8.static import STEPS, StaticInt8, StaticOptions, convert
from exporters.model_file import ModelFile
from tests.contract.tiny_models import MODELS

Exported = Callable[[str], Path]
VNNI = targets.named("x86-vnni")


def prepared(src: Path) -> onnx.ModelProto:
    file = ModelFile(src)
    return int8_preparation.preprocessed(file, file.normal)


def quantized(name: str, exported: Exported) -> tuple[onnx.ModelProto, onnx.ModelProto, dict[str, np.ndarray]]:
    """(fp32 made ready, its plain QDQ version, samples)."""
    src, samples = exported(name), MODELS[name].samples(40)
    model = prepared(src)
    digest = calibration_data.check(samples, model, source="test")
    ranges = collect(model, samples, data_sha256=digest).ranges()
    return model, qdq.inserted(model, ranges, int8=VNNI), samples


@pytest.mark.parametrize("target", targets.TARGETS)
@pytest.mark.parametrize("name", MODELS)
def test_every_target_gets_its_format(name: str, target: str, exported: Exported, tmp_path: Path) -> None:
    int8 = targets.named(target)
    made = convert(ModelFile(exported(name)), tmp_path / "m.onnx", samples=MODELS[name].samples(40), int8=int8)
    model = ModelFile(made.path).proto
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    zeros = [tensors[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    wanted = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8}[int8.activation]
    assert zeros
    assert {zero.data_type for zero in zeros} == {wanted}
    if int8.symmetric:
        assert not any(numpy_helper.to_array(zero).any() for zero in zeros)
    if int8.reduce_range:
        weights = [tensor for tensor in tensors.values() if tensor.data_type == TensorProto.INT8 and tensor.dims]
        assert max(np.abs(numpy_helper.to_array(weight).astype(int)).max() for weight in weights) <= 64


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_a_sound_model(method: Method, exported: Exported, tmp_path: Path) -> None:
    src, samples = exported("residual"), MODELS["residual"].samples(40)
    made = convert(
        ModelFile(src), tmp_path / "m.onnx", samples=samples, int8=VNNI, options=StaticOptions(method=method)
    )
    unseen = MODELS["residual"].samples(40, seed=9)
    assert Evidence(ModelFile(src).proto, unseen).sqnr_db(ModelFile(made.path).proto) > 18


def test_excluded_nodes_stay_in_float(exported: Exported, tmp_path: Path) -> None:
    ready = StaticInt8(ModelFile(exported("residual")), samples=MODELS["residual"].samples(40), int8=VNNI)
    convolutions = [node.name for node in ModelFile(exported("residual")).proto.graph.node if node.op_type == "Conv"]
    kept = convolutions[1]
    assert kept in ready.nodes
    made = ModelFile(ready.write(tmp_path / "m.onnx", exclude=[kept]).path).proto
    floats = {tensor.name for tensor in made.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    by_name = {node.name: node for node in made.graph.node if node.op_type == "Conv"}
    assert by_name[kept].input[1] in floats
    assert by_name[convolutions[0]].input[1] not in floats


def test_an_excluded_node_that_is_not_there_is_said(exported: Exported, tmp_path: Path) -> None:
    ready = StaticInt8(ModelFile(exported("mlp")), samples=MODELS["mlp"].samples(40), int8=VNNI)
    with pytest.raises(BadOption, match="no node named nothing"):
        ready.write(tmp_path / "m.onnx", exclude=["nothing"])
    assert not (tmp_path / "m.onnx").exists()


def test_products_of_activations_and_softmax_stay_in_float(exported: Exported) -> None:
    model = prepared(exported("attention"))
    kinds = {node.name: node.op_type for node in model.graph.node}
    kept = [kinds[name] for name in qdq.nodes_in_float(model, VNNI)]
    assert kept.count("MatMul") == 2
    assert {"Softmax", "LayerNormalization", "Add"} <= set(kept)


@pytest.mark.parametrize("name", ["mlp", "residual"])
def test_the_last_product_gives_its_result_unrounded(name: str, exported: Exported) -> None:
    _, made, _ = quantized(name, exported)
    makers = {output: node for node in made.graph.node for output in node.output}
    assert makers[made.graph.output[0].name].op_type in ("Gemm", "MatMul")


def test_a_residual_stream_is_not_rounded(exported: Exported) -> None:
    """The addition between two norms reads what the layers gave, not the copies that the products read in int8."""
    _, made, _ = quantized("attention", exported)
    makers = {output: node for node in made.graph.node for output in node.output}
    norm = next(node for node in made.graph.node if node.op_type == "LayerNormalization")
    added = makers[norm.input[0]]
    assert added.op_type == "Add"
    assert not any(makers[name].op_type == "DequantizeLinear" for name in added.input if name in makers)


def test_a_float_node_reads_what_a_float_node_made(exported: Exported) -> None:
    src, samples = exported("residual"), MODELS["residual"].samples(40)
    model = prepared(src)
    digest = calibration_data.check(samples, model, source="test")
    ranges = collect(model, samples, data_sha256=digest).ranges()
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    first, readers = convolutions[0], convolutions[1:]
    made = qdq.inserted(model, ranges, int8=VNNI, exclude=[first.name, readers[0].name])
    by_name = {node.name: node for node in made.graph.node}
    makers = {output: node for node in made.graph.node for output in node.output}
    assert makers[by_name[readers[0].name].input[0]].op_type == "Relu"
    assert makers[by_name[readers[1].name].input[0]].op_type == "DequantizeLinear"


@pytest.mark.parametrize("name", ["mlp", "residual"])
def test_segments_give_what_the_whole_graph_gives(name: str, exported: Exported) -> None:
    model, made, samples = quantized(name, exported)
    del model
    (whole,) = activations.run(activations.open_session(made), None, samples)
    halves = [{name: array[part] for name, array in samples.items()} for part in (slice(7), slice(7, None))]
    run = Segments(made, halves)
    for node in made.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            found = np.concatenate(run.until(node))
    # a segment ends where a fused kernel would go on in integers: equal but for single roundings
    assert np.abs(found - whole).max() < 0.05 * np.abs(whole).max()


@pytest.mark.parametrize("name", ["mlp", "residual"])
def test_bias_correction_centres_every_layer(name: str, exported: Exported) -> None:
    model, made, samples = quantized(name, exported)
    correction = bias_correction.measure(model, made, samples)
    assert correction.shifts
    ranges_model = correction.applied_to(model)
    onnx_file.check(ranges_model, step="test")
    digest = calibration_data.check(samples, model, source="test")
    ranges = collect(model, samples, data_sha256=digest).ranges()
    corrected = qdq.inserted(ranges_model, ranges, int8=VNNI)
    before = bias_correction.measure(model, made, samples).shifts
    after = bias_correction.measure(model, corrected, samples).shifts
    shift = {key: float(np.abs(values).mean()) for key, values in before.items()}
    left = {key: float(np.abs(values).mean()) for key, values in after.items()}
    assert sum(left.values()) < 0.3 * sum(shift.values())


@pytest.mark.parametrize("step", STEPS)
def test_a_skipped_step_is_not_done(step: str, exported: Exported, tmp_path: Path) -> None:
    options = StaticOptions(skip=frozenset(STEPS))
    made = convert(
        ModelFile(exported("residual")),
        tmp_path / "m.onnx",
        samples=MODELS["residual"].samples(40),
        int8=VNNI,
        options=options,
    )
    assert not any(note.startswith(step) for note in made.notes)


def test_batch_norms_are_folded_before_anything(exported: Exported) -> None:
    model = prepared(exported("residual"))
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)

"""Calibration on real graphs: batches, memory groups, the cache, and the upstream faults that it does not have."""

import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exporters.calibration import activations, taps
from exporters.calibration import cache as statistics_cache
from exporters.calibration import data as calibration_data
from exporters.calibration.histogram import Histogram
from exporters.calibration.statistics import Statistics, collect
from exporters.errors import NotConvertible
from exporters.model_file import ModelFile
from exporters.processors import usable_cores
from tests.contract.tiny_models import MODELS

Exported = Callable[[str], Path]


def ready(path: Path) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(ModelFile(path).proto)


def collected(name: str, exported: Exported, **options: object) -> Statistics:
    model, samples = ready(exported(name)), MODELS[name].samples(20)
    digest = calibration_data.check(samples, model, source="test")
    return collect(model, samples, data_sha256=digest, **options)  # type: ignore[arg-type]


def same(a: Statistics, b: Statistics) -> bool:
    return a.seen.keys() == b.seen.keys() and all(
        (a.seen[name].counts == b.seen[name].counts).all() and a.seen[name].lowest == b.seen[name].lowest
        for name in a.seen
    )


@pytest.mark.parametrize("name", MODELS)
def test_every_float_activation_gets_a_range(name: str, exported: Exported) -> None:
    found = collected(name, exported)
    ranges = found.ranges()
    model = ready(exported(name))
    used = {tensor for node in model.graph.node for tensor in (*node.input, *node.output)}
    assert set(ranges) == used & set(taps.float_tensors(model))
    assert all(each.low <= 0 <= each.high for each in ranges.values())


@pytest.mark.parametrize("name", MODELS)
def test_ranges_hold_what_the_graph_really_gives(name: str, exported: Exported) -> None:
    """Of the output, which every model has, by running the model itself."""
    model = ready(exported(name))
    outputs = activations.open_session(model).run(None, dict(MODELS[name].samples(20)))[0]
    found = collected(name, exported).ranges(method="minmax")[model.graph.output[0].name]
    assert found.low == pytest.approx(min(outputs.min(), 0), abs=1e-5)
    assert found.high == pytest.approx(max(outputs.max(), 0), abs=1e-5)


def test_a_relu_decides_the_range_of_what_feeds_it_alone(exported: Exported) -> None:
    model = ready(exported("mlp"))
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    wanted = taps.of(model)
    assert wanted.same_as[relu.input[0]] == relu.output[0]
    assert relu.input[0] not in wanted.measured


@pytest.mark.parametrize("name", MODELS)
def test_a_small_memory_budget_changes_the_passes_and_not_the_result(name: str, exported: Exported) -> None:
    passes: list[int] = []
    tight = collected(name, exported, memory_budget=1, advance=passes.append)
    whole = collected(name, exported)
    assert tight.seen.keys() == whole.seen.keys()
    for tensor, seen in whole.seen.items():  # a matrix product of another batch size may round its last bit otherwise
        assert tight.seen[tensor].highest == pytest.approx(seen.highest, rel=1e-5, abs=1e-6)
        assert np.abs(tight.seen[tensor].counts - seen.counts).sum() <= max(2, 0.01 * seen.counts.sum())
    assert sum(passes) == 20  # each sample counts once, however many passes it takes


def test_the_cache_answers_the_same_call_and_only_that(exported: Exported, tmp_path: Path) -> None:
    first = collected("mlp", exported, cache=tmp_path)
    again = collected("mlp", exported, cache=tmp_path)
    assert not first.from_cache
    assert again.from_cache
    assert same(first, again)
    assert not collected("residual", exported, cache=tmp_path).from_cache


def test_a_changed_weight_is_a_miss(exported: Exported, tmp_path: Path) -> None:
    """ONNX Runtime's calibration cache goes by names: weights times 100 get the ranges of before."""
    model, samples = ready(exported("mlp")), MODELS["mlp"].samples(20)
    digest = calibration_data.check(samples, model, source="test")
    before = collect(model, samples, data_sha256=digest, cache=tmp_path)
    weight = model.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 100, weight.name))
    after = collect(model, samples, data_sha256=digest, cache=tmp_path)
    assert not after.from_cache
    output = model.graph.output[0].name
    assert after.ranges()[output].high > 10 * before.ranges()[output].high


def test_other_data_is_a_miss(exported: Exported, tmp_path: Path) -> None:
    model = ready(exported("mlp"))
    for seed in (1, 2):
        samples = MODELS["mlp"].samples(20, seed=seed)
        digest = calibration_data.check(samples, model, source="test")
        assert not collect(model, samples, data_sha256=digest, cache=tmp_path).from_cache


def test_a_damaged_cache_file_is_a_miss(exported: Exported, tmp_path: Path) -> None:
    collected("mlp", exported, cache=tmp_path)
    (kept,) = tmp_path.glob("*.npz")
    kept.write_bytes(kept.read_bytes()[:100])
    assert not collected("mlp", exported, cache=tmp_path).from_cache
    assert statistics_cache.load(tmp_path, "nothing") is None


def test_no_sample_is_thrown_away(exported: Exported) -> None:
    """ONNX Runtime's CalibMaxIntermediateOutputs forgets: inputs 100, 1, 2, 3, 4 give it the range [4, 4]."""
    model = ready(exported("mlp"))
    samples = {"x": np.array([100, 1, 2, 3, 4], np.float32)[:, None] * np.ones((1, 12), np.float32)}
    digest = calibration_data.check(samples, model, source="test")
    found = collect(model, samples, data_sha256=digest, memory_budget=1).ranges(method="minmax")
    assert found["x"].high == 100


def test_memory_does_not_grow_with_the_samples(exported: Exported) -> None:
    """ONNX Runtime's percentile and entropy keep every activation of every sample: here one batch a thread lives."""
    given: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    class Watching:
        def add(self, values: np.ndarray, *, name: str) -> None:
            given.append(weakref.ref(values))
            alive.append(sum(each() is not None for each in given))

        def merge(self, other: object) -> None:
            pass

    model, samples = ready(exported("residual")), MODELS["residual"].samples(1000)
    wanted = taps.of(model).measured
    activations.fold(model, samples, tensors=wanted, make=Watching)
    assert len(given) > 10 * len(wanted)
    assert max(alive) <= len(wanted) * usable_cores()


def test_a_fixed_batch_is_kept_to(exported: Exported) -> None:
    model = ready(exported("mlp"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    del model.graph.value_info[:]
    model = onnx.shape_inference.infer_shapes(model)
    found = activations.fold(model, MODELS["mlp"].samples(10), tensors=["x"], make=Histogram)
    assert found["x"].counts.sum() == 8 * 12


def test_what_becomes_infinite_inside_has_no_range_and_is_named(exported: Exported) -> None:
    model = ready(exported("mlp"))
    samples = {"x": np.concatenate([np.full((2, 12), 3e38, np.float32), np.eye(12, dtype=np.float32)])}
    digest = calibration_data.check(samples, model, source="test")
    found = collect(model, samples, data_sha256=digest)
    assert "x" not in found.ranges()
    assert found.fault_of("x") == "reaches infinity"


def test_a_custom_operator_is_said(tmp_path: Path, exported: Exported) -> None:
    model = ready(exported("mlp"))
    model.graph.node[0].domain, model.graph.node[0].op_type = "my.company", "Magic"
    model.opset_import.append(onnx.helper.make_opsetid("my.company", 1))
    with pytest.raises(NotConvertible, match="Magic"):
        activations.fold(model, MODELS["mlp"].samples(2), tensors=["x", model.graph.output[0].name], make=Histogram)

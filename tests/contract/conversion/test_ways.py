"""In which ways a version is computed before it is believed, and how many values an output gives to be judged by."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exporters import onnx_file
from exporters.model_file import ModelFile
from toolchain.accuracy import running
from toolchain.accuracy.status import Status
from toolchain.conversion import fitting
from toolchain.conversion.given import Given
from toolchain.conversion.goal import Goal
from toolchain.conversion.precisions import Fp16
from toolchain.conversion.proof import Proven
from toolchain.conversion.trial import Trial
from toolchain.inputs import made_up
from toolchain.inputs.samples import Samples
from toolchain.progress import SILENT


def written(text: str, path: Path, dtype: type[np.floating] = np.float32) -> ModelFile:
    """A graph with the weights w (16, 64) and v (64, 8)."""
    model = onnx.parser.parse_model(text)
    random = np.random.default_rng(1)
    for name, shape in (("w", (16, 64)), ("v", (64, 8))):
        model.graph.initializer.append(numpy_helper.from_array((random.normal(size=shape) / 8).astype(dtype), name))
    onnx_file.save(model, path)
    return ModelFile(path)


@pytest.fixture
def mean(tmp_path: Path) -> ModelFile:
    return written(
        """<ir_version: 8, opset_import: ["" : 17]>
        mean (float[N, 16] x) => (float y) {
            [first] a = MatMul (x, w)
            [rectify] r = Relu (a)
            [second] l = MatMul (r, v)
            [over] y = ReduceMean <keepdims = 0> (l)
        }""",
        tmp_path / "mean.onnx",
    )


def converted(model: ModelFile, samples: Samples) -> Proven:
    return fitting.convert(
        model, model.path.with_name("half.onnx"), Fp16(), goal=Goal(), progress=SILENT,
        given=lambda model, calibrates: Given(calibration=None, judged_on=samples),
    )  # fmt: skip


def test_a_mean_over_the_batch_is_judged_by_several_values(mean: ModelFile) -> None:
    """One value alone may be near zero by chance: 38 dB of it said nothing of a file of 60 dB."""
    samples = made_up.samples_for(mean, 32)
    calls = running.calls_of(mean, samples.inputs, mean.batch_axes)
    assert [call["y"].shape for call in calls] == [()] * 8
    assert converted(mean, samples).parity.passed


def test_rows_are_still_run_together(tmp_path: Path) -> None:
    model = written(
        """<ir_version: 8, opset_import: ["" : 17]>
        rows (float[N, 16] x) => (float[N, 8] y) { a = MatMul (x, w)  y = MatMul (a, v) }""",
        tmp_path / "rows.onnx",
    )
    samples = made_up.samples_for(model, 32)
    assert [call["y"].shape for call in running.calls_of(model, samples.inputs, model.batch_axes)] == [(32, 8)]


def test_weights_stored_in_half_behind_a_cast_become_products_in_half(tmp_path: Path) -> None:
    model = written(
        """<ir_version: 8, opset_import: ["" : 17]>
        stored (float[N, 16] x) => (float[N, 8] y) {
            wide = Cast <to = 1> (w)
            tall = Cast <to = 1> (v)
            [first] a = MatMul (x, wide)
            [second] y = MatMul (a, tall)
        }""",
        tmp_path / "stored.onnx",
        np.float16,
    )
    made = converted(model, made_up.samples_for(model, 32))
    assert made.file.precision == "fp16"
    products = [node for node in made.file.proto.graph.node if node.op_type == "MatMul"]
    halves = {
        tensor.name for tensor in made.file.proto.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16
    }
    assert len(products) == 2
    assert all(node.input[1] in halves for node in products)


def test_a_version_is_judged_by_the_worse_of_its_ways(mean: ModelFile, tmp_path: Path) -> None:
    """A search that went by hardware alone ended with a version that the proof refused."""
    samples = made_up.samples_for(mean, 32)
    ready = Fp16().prepare(mean, Given(calibration=None, judged_on=samples), SILENT)
    trial = Trial(mean, ready, "fp16", samples, Goal())
    _, ways = trial.made(tmp_path / "trial.onnx", (), {})
    assert len(ways) == 2
    spoilt = [{"y": call["y"] + np.float32(1)} for call in ways[1]]
    assert trial.judge(ways).status is Status.OK
    assert trial.judge([ways[0], spoilt]).status is Status.UNPROVEN
    assert not trial.compare([ways[0], spoilt]).passed

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

from exporters.calibration import thresholds
from exporters.calibration.histogram import Histogram
from exporters.calibration.thresholds import METHODS, Method, range_of
from exporters.errors import BadOption

Floats = npt.NDArray[np.float32]
RANDOM = np.random.default_rng(0)
DATA = {
    "normal": RANDOM.normal(size=(16, 4096)).astype(np.float32),
    "after a ReLU": np.maximum(RANDOM.normal(size=(16, 4096)), 0).astype(np.float32),
    "long tails": RANDOM.standard_t(2, size=(16, 4096)).astype(np.float32),
    "negative": -np.abs(RANDOM.normal(size=(16, 4096))).astype(np.float32) - 3,
}


def seen(values: Floats) -> Histogram:
    histogram = Histogram()
    histogram.add(values)
    return histogram


def error(values: Floats, low: float, high: float) -> float:
    """The mean squared error of 8 bits over [low, high], from the values themselves."""
    step = (high - low) / 255
    zero = np.round(-low / step)
    levels = np.clip(np.round(values / step) + zero, 0, 255)
    return float(np.mean(((levels - zero) * step - values.astype(np.float64)) ** 2))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", DATA)
def test_a_range_holds_zero_and_lies_within_the_extremes(method: Method, kind: str) -> None:
    values = DATA[kind]
    found = range_of(seen(values), method=method)
    assert min(values.min(), 0) <= found.low <= 0 <= found.high <= max(values.max(), 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", DATA)
def test_a_symmetric_range_is_symmetric(method: Method, kind: str) -> None:
    found = range_of(seen(DATA[kind]), method=method, symmetric=True)
    assert found.low == -found.high


@pytest.mark.parametrize("kind", DATA)
def test_mse_beats_every_other_method_in_squared_error(kind: str) -> None:
    values = DATA[kind]
    errors = {
        method: error(values, found.low, found.high)
        for method in METHODS
        for found in [range_of(seen(values), method=method)]
    }
    assert errors["mse"] <= 1.02 * min(errors.values())


def test_mse_clips_an_outlier_that_costs_more_than_it_is_worth() -> None:
    values = np.concatenate([DATA["normal"].ravel(), [40.0]]).astype(np.float32)[None]
    assert range_of(seen(values), method="minmax").high == 40
    assert range_of(seen(values), method="mse").high < 20


@given(st.floats(1, 100), st.floats(1, 100))
def test_a_higher_percentile_never_gives_a_smaller_range(a: float, b: float) -> None:
    histogram = seen(DATA["long tails"])
    small, large = (range_of(histogram, method="percentile", percentile=each) for each in sorted((a, b)))
    assert large.low <= small.low
    assert small.high <= large.high


@settings(max_examples=20)
@given(st.sampled_from(list(DATA)), st.sampled_from(METHODS), st.integers(-30, 30))
def test_ranges_scale_with_the_data(kind: str, method: Method, doublings: int) -> None:
    values = DATA[kind][:1]
    plain, scaled = (range_of(seen(each), method=method) for each in (values, np.ldexp(values, doublings)))
    assert scaled.low == pytest.approx(np.ldexp(plain.low, doublings), rel=1e-6)
    assert scaled.high == pytest.approx(np.ldexp(plain.high, doublings), rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 5.0, -5.0])
def test_a_constant_is_covered(method: Method, value: float) -> None:
    found = range_of(seen(np.full((2, 100), value, np.float32)), method=method)
    assert found.low <= value <= found.high


@pytest.mark.parametrize("percentile", [0, -1, 100.1])
def test_what_is_no_percentile_is_refused(percentile: float) -> None:
    with pytest.raises(BadOption, match="percentile"):
        range_of(seen(DATA["normal"]), method="percentile", percentile=percentile)


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, values: Floats) -> None:
        self._batches = iter([{"x": part} for part in np.array_split(values, 4)])

    def get_next(self) -> dict[str, Floats] | None:
        return next(self._batches, None)


def onnxruntimes(
    values: Floats, folder: Path, method: CalibrationMethod, capfd: pytest.CaptureFixture[str], **options: object
) -> tuple[float, float]:
    """The range of ``values`` by ONNX Runtime's own calibrator."""
    names = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", values.shape[1]]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", names[:1], names[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "m.onnx")
    calibrator = create_calibrator(
        folder / "m.onnx", ["Identity"], str(folder / "a.onnx"), calibrate_method=method, extra_options=options
    )
    calibrator.collect_data(Reader(values))
    low, high = calibrator.compute_data()["x"].range_value
    capfd.readouterr()  # it prints
    return float(np.squeeze(low)), float(np.squeeze(high))


@pytest.mark.parametrize("kind", DATA)
def test_minmax_agrees_with_onnxruntimes(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    values = DATA[kind]
    low, high = onnxruntimes(values, tmp_path, CalibrationMethod.MinMax, capfd)
    found = range_of(seen(values), method="minmax")
    assert (found.low, found.high) == (min(low, 0), max(high, 0))


@pytest.mark.parametrize("percentile", [99.0, 99.9, 99.99])
@pytest.mark.parametrize("kind", ["normal", "after a ReLU", "negative"])
def test_percentile_agrees_with_onnxruntimes_to_a_bin(
    kind: str, percentile: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    values = DATA[kind]
    low, high = onnxruntimes(values, tmp_path, CalibrationMethod.Percentile, capfd, percentile=percentile)
    histogram = seen(values)
    found = range_of(histogram, method="percentile", percentile=percentile)
    bin_width = histogram.width + float(np.abs(values).max()) / 2048
    assert abs(found.high - max(high, 0)) <= bin_width
    assert abs(found.low - min(low, 0)) <= bin_width


def test_entropy_agrees_with_onnxruntimes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With as many bins: its default of 128 leaves it one candidate, the extremes."""
    values = DATA["long tails"].clip(-15.9, 15.9)
    low, high = onnxruntimes(values, tmp_path, CalibrationMethod.Entropy, capfd, num_bins=512, num_quantized_bins=128)
    found = range_of(seen(values), method="entropy")
    assert found.high == pytest.approx(high, rel=0.15)
    assert found.low == pytest.approx(low, rel=0.15)


def test_the_default_is_one_of_the_methods() -> None:
    assert thresholds.DEFAULT_METHOD in METHODS

"""A regression and a segmentation model by metrics of their own through the real command; and what goes wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end import metric_models
from toolchain.bench.record import Benchmark

Nnx = Callable[..., tuple[int, str, str]]
BENCH = ["--batch", "1", "--threads", "1", "--max-time", "1"]
CODE = """
import numpy as np
import nearby

def off(outputs, targets):
    return nearby.distance(outputs[:, 0], targets)

def median_off(outputs, targets):
    return float(np.median(nearby.distance(outputs[:, 0], targets)))

def raises(outputs, targets):
    raise KeyError("no such column")

def short(outputs, targets):
    return np.zeros(1)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with both models, their data, and a user's metric that imports its neighbour."""
    monkeypatch.chdir(tmp_path)
    metric_models.regression(tmp_path)
    metric_models.segmentation(tmp_path)
    Path("nearby.py").write_text("import numpy as np\ndef distance(a, b):\n    return np.abs(a - b)\n")
    Path("mine.py").write_text(CODE)
    return tmp_path


def quantize(nnx: Nnx, model: str, data: str, *arguments: object) -> tuple[int, str, str]:
    return nnx("quantize", f"{model}.onnx", "--int8", "--calibration", data, "--no-time", *arguments)


def test_a_regression_model_keeps_its_error(place: Path, nnx: Nnx) -> None:
    code, out, err = quantize(nnx, "regression", "numbers.npz", "--metric", "mae", "--max-drop", 0.05, "-o", "q.onnx")
    assert code == 0, err
    assert "mean absolute error: passed. On 144 samples the rise in mean absolute error is 0.00" in out
    assert "and at most 0.05 is allowed" in out
    code, out, err = nnx("bench", "regression.onnx", "q.onnx", "--samples", "numbers.npz", "--metric", "mae", *BENCH)
    assert code == 0, err
    assert "mean absolute error" in out.splitlines()[1]
    assert "0.17" in out


def test_a_segmentation_model_keeps_its_iou(place: Path, nnx: Nnx) -> None:
    asked = ["--metric", "iou", "--max-drop", "5"]
    code, out, err = quantize(nnx, "segmentation", "masks.npz", *asked, "--json", "-o", "q.onnx")
    assert code == 0, err
    verdict = json.loads(out)["verdict"]
    assert verdict["metric"] == {"name": "iou", "title": "mean IoU", "higher_is_better": True, "share": True}
    assert verdict["drop"]["low"] <= verdict["drop"]["estimate"] <= verdict["drop"]["high"] <= 0.05
    files = ["segmentation.onnx", "q.onnx"]
    code, out, err = nnx("bench", *files, "--samples", "masks.npz", *asked, *BENCH, "-o", "bench.json", "--json")
    assert code == 0, err
    first, second = Benchmark.from_json(out).rows
    assert first.metric is not None
    assert first.metric.name == "iou"
    assert first.accuracy is not None
    assert second.accuracy is not None
    assert second.drop is not None
    assert second.drop.estimate == pytest.approx(first.accuracy.estimate - second.accuracy.estimate)
    code, out, _ = nnx("compare", "bench.json", "bench.json", "--json")
    assert json.loads(out)["rows"][0]["new"]["metric"]["name"] == "iou"


def test_a_metric_of_ones_own_judges(place: Path, nnx: Nnx) -> None:
    for name in ("off", "median_off"):
        asked = ["--metric", f"mine.py:{name}", "--lower-is-better", "--max-drop", "0.05"]
        code, out, err = quantize(nnx, "regression", "numbers.npz", *asked, "-o", f"{name}.onnx")
        assert code == 0, err
        assert f"the rise in {name} is" in out


def test_without_a_limit_it_is_told_and_nothing_is_required(place: Path, nnx: Nnx) -> None:
    code, out, err = quantize(nnx, "regression", "numbers.npz", "--metric", "rmse")
    assert code == 0, err
    assert "of which nothing is required" in out


def test_a_search_goes_by_the_metric(place: Path, nnx: Nnx) -> None:
    asked = ["--metric", "mae", "--max-drop", "0.0005", "--budget", "20s"]
    code, _, err = quantize(nnx, "regression", "numbers.npz", *asked)
    assert code == 1
    assert "1 in float: undecided, rise in mean absolute error 0.00" in err
    assert "2 in float, by the other samples: passed, rise in mean absolute error 0 (0 to 0)" in err
    assert "Only the original meets the requirement" in err


@pytest.mark.parametrize(
    ("data", "metric", "sentence"),
    [
        ("masks.npz", "mae", "mae wants numbers of the targets' shape"),
        ("masks.npz", "top2", "There is no metric 'top2'"),
        ("masks.npz", None, "name the --metric that they are for"),
        ("bare.npz", "iou", "iou has nothing to judge by: other samples of bare.npz holds no right answers"),
        ("nan.npz", "iou", "The targets in nan.npz hold NaN"),
        ("few.npz", "iou", "these numbers of samples"),
        ("twice.npz", "iou", "has the right answers twice: labels, targets"),
        ("masks.npz", "mine.py:raises", "mine.py:raises failed: KeyError: 'no such column'"),
        ("masks.npz", "mine.py:short", "gave [1] numbers for 2 samples"),
        ("masks.npz", "mine.py:absent", "has no 'absent'"),
    ],
)
def test_what_does_not_fit_is_one_sentence(data: str, metric: str | None, sentence: str, place: Path, nnx: Nnx) -> None:
    with np.load("masks.npz") as members:
        image, targets = members["image"], members["targets"]
    np.savez("bare.npz", image=image)
    np.savez("nan.npz", image=image, targets=np.where(targets == 1, np.nan, targets).astype(np.float32))
    np.savez("few.npz", image=image, targets=targets[:50])
    np.savez("twice.npz", image=image, targets=targets, labels=targets)
    before = sorted(place.iterdir())
    code, out, err = quantize(nnx, "segmentation", data, *(["--metric", metric] if metric else []))
    assert (code, out) == (2, "")
    assert sentence in " ".join(err.split())
    assert "Traceback" not in err
    assert [path for path in sorted(place.iterdir()) if path.name != "__pycache__"] == before

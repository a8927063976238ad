"""The order of a run's steps, and what becomes of a precision that cannot be had."""

from pathlib import Path
from typing import Any

import pytest

from exporters.errors import NotApplicable
from toolchain import pipeline
from toolchain.conversion.precisions import Precision
from toolchain.errors import CheckFailed, NnxError, Undecided
from toolchain.manifest import Manifest
from toolchain.pipeline import Pipeline
from toolchain.progress import Progress
from toolchain.steps import ModelStep, Said


class Road(Pipeline):
    """A pipeline whose steps only say that they were taken, or fail."""

    def __init__(self, folder: Path, failing: dict[str, Exception]) -> None:
        self.folder, self._failing, self._progress = folder, failing, Progress()
        self._failures: list[NnxError] = []
        self.taken: list[str] = []
        for name in ("fp16", "int8-dynamic", "int8-static"):
            self.path(name).touch()  # of an earlier run

    def train(self, *arguments: Any, **options: Any) -> Any:
        self.taken.append("train")

    def export(self, **options: Any) -> Any:
        self.taken.append("fp32")

    def convert(self, precision: Precision, **options: Any) -> ModelStep:
        if precision.name in self._failing:
            raise self._failing[precision.name]
        self.taken.append(precision.name)
        return ModelStep(precision=precision.name, size_bytes=1, opset=20, parity="")

    def explain(self) -> None:
        self.taken.append("explain")

    def bench(self, *arguments: Any) -> Any:
        self.taken.append("bench")

    def report(self, *arguments: Any) -> Any:
        self.taken.append("report")


def run(folder: Path, failing: dict[str, Exception]) -> Road:
    road = Road(folder, failing)
    pipeline.run(road, None, settings=[])  # type: ignore[arg-type]  # training is left out here
    return road


def test_every_step_is_taken_in_order(tmp_path: Path) -> None:
    road = run(tmp_path, {})
    assert road.taken == ["train", "fp32", "fp16", "int8-dynamic", "int8-static", "explain", "bench", "report"]
    road.require_all()


def test_a_precision_that_does_not_suit_the_model_is_left_out(tmp_path: Path) -> None:
    road = run(tmp_path, {"int8-dynamic": NotApplicable("It has no products.", "Use static.")})
    assert "bench" in road.taken
    assert not road.path("int8-dynamic").exists()
    road.require_all()


@pytest.mark.parametrize("failure", [CheckFailed("It loses 3 points.", "Search."), Undecided("Too few.", "Give more.")])
def test_one_that_does_not_keep_its_accuracy_costs_the_run_no_other_step(failure: NnxError, tmp_path: Path) -> None:
    road = run(tmp_path, {"fp16": failure, "int8-static": failure})
    assert road.taken == ["train", "fp32", "int8-dynamic", "bench", "report"]
    assert [road.path(name).exists() for name in ("fp16", "int8-dynamic", "int8-static")] == [False, True, False]
    with pytest.raises(type(failure)):
        road.require_all()


def test_facts_that_another_nnx_wrote_are_not_reused(tmp_path: Path) -> None:
    road = Road(tmp_path, {})
    road._force, road.manifest = False, Manifest(tmp_path)
    road.manifest.record("bench", {}, [], {"text": "3 rows"})
    assert road._kept("bench", {}, Said) == Said(text="3 rows")
    road.manifest.record("bench", {}, [], {"rows": 3})
    assert road._kept("bench", {}, Said) is None

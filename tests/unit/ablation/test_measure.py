"""The ablation with scripted loops in place of processes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolchain.ablation import measure as ablation
from toolchain.ablation.record import Ablation
from toolchain.datasets.dataset import Dataset, Split
from toolchain.errors import CheckFailed
from toolchain.html_report import model_sections
from toolchain.processes.turns import JobFailed
from toolchain.progress import SILENT
from toolchain.training.options import Switches, TrainingOptions

OPTIONS = TrainingOptions(
    epochs=1, batch_size=2, lr=0.1, seed=0, device="cpu", switches=Switches(channels_last=True, whole_batches=True)
)
SPLIT = Split(np.zeros((8, 3), np.float32), np.zeros(8, np.int64))
DATA = Dataset(train=SPLIT, validation=SPLIT, test=SPLIT, classes=("a", "b"))


class Loop:
    """A loop whose step takes ``step_ms``; the operation ``fails_at`` fails."""

    def __init__(self, step_ms: float, fails_at: str) -> None:
        self._step_ms, self._fails_at = step_ms, fails_at

    def open(self) -> None:
        self.ask("open")

    def ask(self, operation: str, *, extra_s: float = 0.0, **arguments: Any) -> Any:
        if operation == self._fails_at:
            raise JobFailed("crash", "It was killed.", "Try a smaller batch.")
        steps = arguments.get("steps", 0)
        part = {"step_ms": [self._step_ms] * steps, "seconds": self._step_ms * steps / 1e3}
        return {"start": 0.5, "part": part, "score": 0.75}.get(operation)

    def close(self) -> None:
        """It has nothing to end."""


def measured(folder: Path, *, plain_fails_at: str = "", others_fail_at: str = "") -> Ablation:
    def start(job: str, spec: dict[str, Any], **more: Any) -> Loop:
        plain = not any(spec["options"]["switches"][name] for name in ("channels_last", "whole_batches", "compile"))
        return Loop(20.0, plain_fails_at) if plain else Loop(10.0, others_fail_at)

    return ablation.measure("tiny", DATA, OPTIONS, folder, rounds=2, progress=SILENT, steps_per_epoch=4, start=start)


def test_gains_are_over_the_plain_loop(tmp_path: Path) -> None:
    found = measured(tmp_path)
    assert [round(loop.step_gain.estimate, 6) for loop in found.variants if loop.step_gain] == [1, 2, 2, 2, 2, 2]
    assert found.dropped == {}
    ablation.require_plain(found)


@pytest.mark.parametrize("operation", ["open", "start", "part", "score"])
def test_without_the_plain_loop_the_others_are_kept(operation: str, tmp_path: Path) -> None:
    found = measured(tmp_path, plain_fails_at=operation)
    assert found.dropped == {"plain": "It was killed."}
    names = [loop.name for loop in found.variants]
    assert names == ["channels_last", "compile", "whole_batches", "all switches", "all, and compile"]
    assert {(loop.step_ms, loop.step_gain, loop.epoch_gain) for loop in found.variants} == {(10.0, None, None)}
    kept = json.loads((tmp_path / "ablation.json").read_text(encoding="utf-8"))
    assert [entry["step_gain"] for entry in kept["variants"]] == [None] * len(names)
    assert (tmp_path / "ablation.md").read_text(encoding="utf-8").count("| –") == 2 * len(names)
    with pytest.raises(CheckFailed, match="no gain is known: It was killed"):
        ablation.require_plain(found)


def test_the_report_shows_what_was_measured_without_the_plain_loop(tmp_path: Path) -> None:
    measured(tmp_path, plain_fails_at="part")
    kept = Ablation.from_json((tmp_path / "ablation.json").read_bytes())
    section = model_sections.ablation(kept, "nnx train tiny --ablate")
    assert "no gain is known" in section.intro
    assert "channels_last" in section.body
    assert "<svg" not in section.body


def test_where_no_loop_runs_there_is_nothing_to_keep(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="No loop could run"):
        measured(tmp_path, plain_fails_at="open", others_fail_at="start")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("processes", "steps"),
    [
        (2, {"all, 2 processes": 6, "all, 2 processes, 2 x batch": 2}),
        (4, {"all, 4 processes": 6}),  # an epoch of 6 samples has no step of 8
    ],
)
def test_processes_with_a_batch_each_do_no_more_steps_than_epochs_have(
    processes: int, steps: dict[str, int], tmp_path: Path
) -> None:
    options = replace(OPTIONS, epochs=2)
    found = ablation.measure(
        "tiny", DATA, options, tmp_path, rounds=2, progress=SILENT, steps_per_epoch=3, processes=processes,
        start=lambda job, spec, **more: Loop(10.0, ""),
    )  # fmt: skip
    together = {each.name: sum(map(len, each.steps_ms)) for each in found.variants if "processes" in each.name}
    assert together == steps

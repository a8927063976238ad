"""The harness of `make hard` itself: what it calls wrong, and that a whole part runs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.hard import comparing

ROOT = Path(__file__).resolve().parents[2]
VALUES = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)


def differing(got: np.ndarray) -> list[str]:
    return comparing.differences(["y"], [[VALUES]], [[got]])


def test_a_channel_that_is_lost_is_named() -> None:
    got = VALUES.copy()
    assert differing(got) == []
    got[:, 1] = got[:, 1].mean()
    (line,) = differing(got)
    assert line.startswith("y: channel 1 of axis 1")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_wrong(bad: float) -> None:
    got = VALUES.copy()
    got[3, 0] = bad
    assert differing(got) != []


def test_places_of_nonzero_are_compared_as_columns() -> None:
    places = np.array([[0, 0, 1, 2, 3], [1, 4, 2, 2, 0]])
    moved = places[:, [1, 0, 2, 3, 4]]
    assert comparing.differences(["nz"], [[places]], [[moved]], loose=True) == []
    assert comparing.differences(["nz"], [[places]], [[places + 7]], loose=True) != []


@pytest.mark.slow
def test_a_disk_that_fails_and_signals_leave_whole_files_and_true_codes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.hard", "--part", "faults", "--share", "0.05"]
    ended = subprocess.run(
        [*command, "--out", str(tmp_path / "hard.json")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "| faults |" in ended.stdout

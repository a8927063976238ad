"""What is kept of many calls: the first in memory, the rest on disk, read one at a time."""

import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolchain.accuracy import gate, kept_calls
from toolchain.accuracy.comparison import compare
from toolchain.accuracy.gate import Requirement
from toolchain.accuracy.metrics.built_in import BUILT_IN

SIDE = 64


def masks(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Calls of 8 samples: scores ``(8, 3, 64, 64)``, 400 kB each."""
    for number in range(count):
        random = np.random.default_rng((seed, number))
        yield {"scores": random.normal(size=(8, 3, SIDE, SIDE)).astype(np.float32)}


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_calls, "MEMORY_BYTES", 1_000_000)


def test_all_calls_come_back_in_their_order(little: None) -> None:
    kept = kept_calls.kept(masks(9))
    assert len(kept) == 9
    for one, other in zip(kept, masks(9), strict=True):
        np.testing.assert_array_equal(one["scores"], other["scores"])
    np.testing.assert_array_equal(kept[-1]["scores"], list(masks(9))[-1]["scores"])
    assert [len(call) for call in kept[2:7:2]] == [1, 1, 1]


def test_few_calls_stay_as_they_are_and_nothing_is_left_on_disk(
    little: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    few = list(masks(2))
    assert kept_calls.kept(iter(few)) == few
    kept = kept_calls.kept(masks(9))
    assert not list(tmp_path.iterdir())  # it has no name
    del kept
    gc.collect()


def judged(count: int) -> tuple[int, gate.Verdict]:
    """(The peak of a whole evaluation's memory in bytes, the verdict) on so many calls."""
    targets = np.random.default_rng(1).integers(3, size=(8 * count, SIDE, SIDE), dtype=np.uint8)
    tracemalloc.start()
    try:
        reference = kept_calls.kept(masks(count))
        given = kept_calls.kept(
            {"scores": call["scores"] + np.float32(1e-3) * other["scores"]}
            for call, other in zip(masks(count), masks(count, seed=1), strict=True)
        )
        requirement = Requirement(max_drop=0.5, min_sqnr_db=20, min_cosine=0.9)
        verdict = gate.judge(requirement, reference, given, targets, metric=BUILT_IN["iou"]())
        assert compare(reference, given, precision="fp16").passed
        return tracemalloc.get_traced_memory()[1], verdict
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_samples(little: None) -> None:
    """Four times as many, 19 MB of outputs more on each side, take less than 1 MB more: 24 numbers a sample."""
    few, verdict = judged(16)
    many, _ = judged(64)
    assert verdict.word == "passed"
    assert many < few + 1_000_000

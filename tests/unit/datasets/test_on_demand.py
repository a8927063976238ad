"""Samples that are read when they are asked for: order, what stands in for a bad one, and how much is read ahead."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from toolchain.datasets import reading
from toolchain.datasets.bad_samples import BadSample, BadSamples
from toolchain.datasets.dataset import Split
from toolchain.datasets.on_demand import OnDemand, Sample
from toolchain.errors import BadUsage


class Numbers:
    """Row r is (r, 10 r), but for the bad ones."""

    labels = None

    def __init__(self, count: int, bad: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.count, self.bad, self.begun = count, bad, 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.count

    def read(self, row: int) -> Sample:
        with self._lock:
            self.begun += 1
        if row in self.bad:
            raise BadSample(f"sample {row}")
        return row, 10 * row


@given(some.data())
def test_a_bad_sample_shifts_no_other_one(data: some.DataObject) -> None:
    count = data.draw(some.integers(1, 30))
    bad = data.draw(some.sets(some.integers(0, count - 1), max_size=count - 1))
    order = np.array(data.draw(some.permutations(range(count))))
    asked = np.array(data.draw(some.lists(some.integers(0, count - 1), min_size=1, max_size=40)))
    size = data.draw(some.integers(1, 10))
    met = BadSamples(most=count)
    samples = OnDemand(Numbers(count, bad), order, met)
    batches = [asked[start : start + size] for start in range(0, len(asked), size)]
    found = list(samples.ahead(iter(batches)))
    assert [rows.tolist() for rows, _ in found] == [rows.tolist() for rows in batches]
    for place, (number, target) in zip(asked, [each for _, batch in found for each in batch], strict=True):
        wanted = next(
            order[(place + step) % count] for step in range(count) if order[(place + step) % count] not in bad
        )
        assert (number, target) == (wanted, 10 * wanted)
    assert set(met.found) <= {f"sample {row}" for row in bad}
    assert {f"sample {order[place]}" for place in asked if order[place] in bad} <= set(met.found)


def test_one_more_than_may_be_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.arange(9)
    with pytest.raises(BadUsage, match=r"^sample 4\.$") as refused:
        list(OnDemand(Numbers(9, {4}), rows, BadSamples()).ahead([rows]))
    assert "--max-bad" in refused.value.do
    with pytest.raises(BadUsage, match=r"2 samples cannot be read, more than --max-bad 1: sample 4; sample 7\."):
        list(OnDemand(Numbers(9, {4, 7}), rows, BadSamples(most=1)).ahead([rows]))
    with pytest.raises(BadUsage, match="No sample of a split"):
        OnDemand(Numbers(2, {0, 1}), np.arange(2), BadSamples(most=5)).sample(0)
    token = reading.MAX_BAD.set(3)
    try:
        assert BadSamples().most == 3
    finally:
        reading.MAX_BAD.reset(token)


def test_a_bad_sample_is_read_and_told_once() -> None:
    store, bad = Numbers(5, {2}), BadSamples(most=1)
    samples = OnDemand(store, np.arange(5), bad)
    assert [samples.sample(place)[0] for place in (2, 2, 2)] == [3, 3, 3]
    assert store.begun == 4
    assert str(bad) == "1 sample was skipped, the next one taken instead: sample 2."


@pytest.mark.parametrize("size", [1, 50])
def test_few_batches_are_read_ahead(size: int) -> None:
    store = Numbers(5000)
    token = reading.WORKERS.set(2)
    try:
        batches = OnDemand(store, np.arange(5000), BadSamples()).ahead(np.split(np.arange(5000), 5000 // size))
        next(batches)
        time.sleep(0.1)
        assert size < store.begun <= max(3 * size, 20)
        batches.close()  # type: ignore[attr-defined]
        begun = store.begun
        time.sleep(0.05)
        assert store.begun == begun
    finally:
        reading.WORKERS.reset(token)


def test_a_split_takes_rows_of_it_and_keeps_their_order() -> None:
    split = Split.on_demand(OnDemand(Numbers(10), np.arange(10), BadSamples())).rows(np.array([7, 1, 4]))
    assert [split.inputs[place] for place in range(3)] == [7, 1, 4]
    assert [split.targets[place] for place in range(len(split))] == [70, 10, 40]
    assert split.rows(np.array([2])).inputs[0] == 4

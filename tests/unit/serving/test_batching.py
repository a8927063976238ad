"""What runs together: as many as may, only what is alike, each with its own rows, in the order of arrival."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolchain.serving.batching import Batcher, Start

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]


def unstoppable(run: Callable[[Outputs], Outputs]) -> Start:
    """``run`` as a call that nothing ends."""
    return lambda feeds: (lambda: run(feeds), lambda: None)


class Model:
    """Doubles ``x``. Waits in its first call until :attr:`go`, so that all the others come meanwhile."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Event()
        self.calls: list[tuple[int, ...]] = []

    def run(self, feeds: Outputs) -> Outputs:
        self.begun.set()
        assert self.go.wait(10)
        self.calls.append(feeds["x"].shape)
        if (feeds["x"] < 0).any():
            raise ValueError("below zero")
        return {"y": feeds["x"] * 2}


def submitted(batcher: Batcher, value: float, shape: tuple[int, ...] = (1, 1)) -> "Future[Outputs]":
    """What comes of it."""
    future: Future[Outputs] = Future()

    def done(outcome: Outputs | Exception) -> None:
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    batcher.submit({"x": np.full(shape, value)}, done)
    return future


def all_of(model: Model, batcher: Batcher, given: list[tuple[float, tuple[int, ...]]]) -> list["Future[Outputs]"]:
    """The first one runs alone, and the others wait while it does."""
    first = submitted(batcher, 100.0)
    assert model.begun.wait(10)
    futures = [submitted(batcher, value, shape) for value, shape in given]
    model.go.set()
    batcher.close()
    assert first.result()["y"].item() == 200.0
    return futures


@given(
    rows=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 2)), max_size=12),
    most_rows=st.integers(1, 8),
    threads=st.integers(1, 3),
)
def test_each_gets_its_own_rows_and_no_call_is_too_large(
    rows: list[tuple[int, int]], most_rows: int, threads: int
) -> None:
    model = Model()
    batcher = Batcher(unstoppable(model.run), most_rows=most_rows, threads=threads)
    futures = all_of(model, batcher, [(float(n), shape) for n, shape in enumerate(rows)])
    for number, (shape, future) in enumerate(zip(rows, futures, strict=True)):
        np.testing.assert_array_equal(future.result()["y"], np.full(shape, 2.0 * number))
    assert sum(call[0] for call in model.calls) == 1 + sum(count for count, _ in rows)
    assert all(call[0] <= max(most_rows, 5) for call in model.calls)


def test_what_waits_runs_together_in_the_order_of_arrival() -> None:
    model = Model()
    shapes = [(1, 1), (1, 2), (2, 1), (1, 2), (1, 1), (3, 1)]
    all_of(model, Batcher(unstoppable(model.run), most_rows=4), [(1.0, shape) for shape in shapes])
    assert model.calls == [(1, 1), (4, 1), (2, 2), (3, 1)]


def test_a_request_larger_than_a_batch_runs_as_it_came() -> None:
    model = Model()
    all_of(model, Batcher(unstoppable(model.run), most_rows=2), [(1.0, (5, 1)), (1.0, (1, 1))])
    assert model.calls == [(1, 1), (5, 1), (1, 1)]


def test_without_batches_each_runs_alone_whatever_its_rank() -> None:
    model = Model()
    all_of(model, Batcher(unstoppable(model.run), most_rows=1), [(1.0, ()), (1.0, ()), (1.0, (2, 2))])
    assert model.calls == [(1, 1), (), (), (2, 2)]


def test_what_one_of_them_brings_about_the_others_do_not_suffer() -> None:
    model = Model()
    good, bad, other = all_of(
        model, Batcher(unstoppable(model.run), most_rows=8), [(1.0, (1, 1)), (-1.0, (1, 1)), (2.0, (1, 1))]
    )
    assert (good.result()["y"].item(), other.result()["y"].item()) == (2.0, 4.0)
    with pytest.raises(ValueError, match="below zero"):
        bad.result()


def test_outputs_without_the_rows_are_not_split() -> None:
    go, begun, calls = threading.Event(), threading.Event(), []

    def summed(feeds: Outputs) -> Outputs:
        begun.set()
        assert go.wait(10)
        calls.append(len(feeds["x"]))
        return {"y": feeds["x"].sum(keepdims=True)}

    batcher = Batcher(unstoppable(summed), most_rows=8)
    first = submitted(batcher, 1.0)
    assert begun.wait(10)
    others = [submitted(batcher, value) for value in (2.0, 3.0)]
    go.set()
    batcher.close()
    assert [each.result()["y"].item() for each in (first, *others)] == [1.0, 2.0, 3.0]
    assert calls == [1, 2, 1, 1]


def test_what_is_cancelled_before_its_turn_does_not_run() -> None:
    model = Model()
    batcher = Batcher(unstoppable(model.run), most_rows=1)
    batcher.submit({"x": np.ones((1, 1))}, lambda outcome: None)
    assert model.begun.wait(10)
    told: list[object] = []
    batcher.cancel(batcher.submit({"x": np.ones((3, 1))}, told.append))
    last = submitted(batcher, 2.0, (2, 1))
    model.go.set()
    batcher.close()
    assert model.calls == [(1, 1), (2, 1)]
    assert len(last.result()["y"]) == 2
    assert told == []


def test_with_a_delay_one_waits_for_company_and_not_once_the_batch_is_full() -> None:
    model = Model()
    model.go.set()
    batcher = Batcher(unstoppable(model.run), most_rows=3, delay_s=60)
    futures = [submitted(batcher, 1.0) for _ in range(3)]
    for future in futures:
        future.result(timeout=10)
    assert model.calls == [(3, 1)]
    late = submitted(batcher, 1.0)
    batcher.close()  # what waits is run at the end, without waiting for more
    assert late.result(timeout=10)["y"].item() == 2.0
    batcher.close()


def test_a_delay_passes() -> None:
    model = Model()
    model.go.set()
    batcher = Batcher(unstoppable(model.run), most_rows=3, delay_s=0.02)
    assert submitted(batcher, 1.0).result(timeout=10)["y"].item() == 2.0
    batcher.close()


def test_inputs_of_unequal_numbers_of_rows_move_nobody_s_rows() -> None:
    """The sums of two such calls may be equal: together they would run, and shift what lies between them."""
    go, begun = threading.Event(), threading.Event()
    calls: list[tuple[int, int]] = []

    def added(feeds: Outputs) -> Outputs:
        begun.set()
        assert go.wait(10)
        calls.append((len(feeds["x"]), len(feeds["z"])))
        return {"y": feeds["x"] + feeds["z"]}  # raises where there are not as many of both

    batcher = Batcher(unstoppable(added), most_rows=8)
    told: dict[str, Outputs | Exception] = {}
    for name, x, z in (("first", 1, 1), ("A", 2, 3), ("C", 1, 1), ("B", 3, 2), ("D", 1, 1)):
        feeds = {"x": np.full((x, 1), 1.0), "z": np.full((z, 1), ord(name[0]) * 1.0)}
        batcher.submit(feeds, lambda outcome, name=name: told.update({name: outcome}))  # type: ignore[misc]
        assert begun.wait(10)
    go.set()
    batcher.close()
    assert {name for name, outcome in told.items() if isinstance(outcome, Exception)} == {"A", "B"}
    for name in "CD":
        outcome = told[name]
        assert not isinstance(outcome, Exception)
        assert outcome["y"].item() == 1.0 + ord(name)
    assert sorted(calls) == [(1, 1), (2, 2), (2, 3), (3, 2)]


def test_a_call_ends_when_all_that_are_in_it_were_cancelled() -> None:
    stopped, begun = threading.Event(), threading.Semaphore(0)
    calls: list[int] = []

    def start(feeds: Outputs) -> tuple[Callable[[], Outputs], Callable[[], None]]:
        def call() -> Outputs:
            calls.append(len(feeds["x"]))
            begun.release()
            if len(feeds["x"]) > 1 and not stopped.wait(10):
                raise TimeoutError
            if stopped.is_set() and len(feeds["x"]) > 1:
                raise ValueError("ended")
            return {"y": feeds["x"]}

        return call, stopped.set

    told: list[object] = []
    batcher = Batcher(start, most_rows=2, delay_s=60)
    both = [batcher.submit({"x": np.ones((1, 1))}, told.append) for _ in range(2)]
    assert begun.acquire(timeout=10)
    batcher.cancel(both[0])
    assert not stopped.is_set()
    batcher.cancel(both[1])
    assert stopped.is_set()
    last = submitted(batcher, 1.0, (2, 1))  # the thread goes on
    with pytest.raises(ValueError, match="ended"):
        last.result(timeout=10)
    batcher.close()
    assert (told, calls) == ([], [2, 2])
    batcher.cancel(both[0])  # too late, and harmless

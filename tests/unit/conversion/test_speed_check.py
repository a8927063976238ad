from dataclasses import replace

import pytest

from runtimes.ort_profile import Unfused
from toolchain.conversion.speed_check import Speed
from toolchain.stats import Interval


def speed(low: float, high: float, unfused: tuple[Unfused, ...] = ()) -> Speed:
    return Speed(
        precision="int8-static", gain=Interval((low + high) / 2, low, high), batch=1, threads=2,
        before_ms=1.0, after_ms=1.2, unfused=unfused,
    )  # fmt: skip


def test_a_faster_result_needs_no_advice() -> None:
    assert speed(1.1, 1.3).advice() == []
    assert "1.20x (1.10 to 1.30)" in str(speed(1.1, 1.3))


def test_a_level_result_is_not_sold_as_faster() -> None:
    (line,) = speed(0.98, 1.02).advice()
    assert "not clearly faster" in line


@pytest.mark.parametrize("count", [1, 7])
def test_a_slower_result_says_so_and_why_and_what_to_ship(count: int) -> None:
    nodes = tuple(
        Unfused(name=f"node{index}", op_type="Conv", mean_us=9.0, share=0.1, why="float") for index in range(count)
    )
    verdict, reason = speed(0.7, 0.8, nodes).advice()
    assert "SLOWER" in verdict
    assert "ship the fp32 file" in verdict
    assert "node0 (Conv, 10%)" in reason
    assert ("and 2 more" in reason) == (count == 7)


def test_a_file_that_is_neither_faster_nor_smaller_is_not_sold_for_its_size() -> None:
    grown = replace(speed(0.98, 1.02), before_bytes=1000, after_bytes=1200)
    (line,) = grown.advice()
    assert "not smaller (1,000 -> 1,200 bytes)" in line
    assert "for its size" not in line
    assert "saves bytes" in replace(grown, after_bytes=400).advice()[0]
    assert "not smaller either" in replace(speed(0.7, 0.8), before_bytes=1000, after_bytes=1200).advice()[1]


def test_an_interval_too_wide_names_no_figure() -> None:
    loaded = speed(12.3, 25.1)
    assert "17" not in replace(loaded, gain=Interval(17.5, 12.3, 25.1)).advice()[0]
    assert "cannot be told" in str(replace(loaded, gain=Interval(17.5, 12.3, 25.1)))
    assert "cannot be told" not in str(speed(1.1, 1.3))


def test_what_the_bench_says_against_its_figures_is_said_here_too() -> None:
    busy = "Other programs use 60% of the processor."
    assert busy in replace(speed(1.1, 1.3), cautions=(busy,)).advice()


def test_the_shapes_that_were_run_are_named() -> None:
    assert "x [1, 3, 16, 16]" in str(replace(speed(1.1, 1.3), shapes={"x": (1, 3, 16, 16)}))

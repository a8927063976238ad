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

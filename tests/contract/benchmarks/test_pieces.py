"""Pieces of a long benchmark come back in order, from warm processes, and on Ray the same ones."""

import pytest

from benchmarks import pieces
from tests.contract.benchmarks import doubling


@pytest.mark.parametrize("ray", [None, "auto"])
def test_rows_come_in_order_from_processes_that_stay_warm(ray: str | None) -> None:
    if ray:
        pytest.importorskip("ray", reason="Ray is not installed: pip install 'nnx-toolchain[ray]'")
    asked = list(range(8))
    rows = [each for found in pieces.judged(doubling.__name__, {"more": 1}, asked, ray=ray) for each in found]
    assert [row["doubled"] for row in rows] == [2 * each + 1 for each in asked]
    # each process opened its job once
    counts = [max(row["done"] for row in rows if row["process"] == number) for number in {r["process"] for r in rows}]
    assert sum(counts) == len(asked)


def test_no_more_is_begun_than_is_taken() -> None:
    asked = iter(range(99))
    found = pieces.judged(doubling.__name__, {"more": 0}, asked, ray=None)
    next(found)
    found.close()
    assert next(asked) < 4

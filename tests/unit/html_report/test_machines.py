"""The page about rows of several machines, and about rows that ran emulated."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.html_report.report_data import BENCHMARK, EVIL
from toolchain.bench.record import Benchmark
from toolchain.html_report.gather import Gathered

pytest.importorskip("altair", reason="altair, of the extra 'report', is not installed")
pytest.importorskip("vl_convert", reason="vl-convert-python, of the extra 'report', is not installed")

from toolchain.html_report import page

HOST = "ssh://pi@one.local"
ROWS = tuple(row for row in BENCHMARK.rows if row.rounds_ms and row.setting.batch == 1 and not row.repeats)


def there(emulated: str = "") -> Benchmark:
    """The rows on another machine, which is hotter than it says."""
    facts = {
        **BENCHMARK.machine, "processor": f"Cortex-A72 {EVIL}", "gpu": None, "emulated": emulated,
        "governors": ["ondemand"], "temperature_c": [48.2, 71.6],
    }  # fmt: skip
    rows = tuple(
        replace(
            row,
            setting=replace(row.setting, host=HOST),
            facts={**row.facts, **({"emulated": emulated} if emulated else {})},
        )
        for row in ROWS
    )
    return replace(BENCHMARK, rows=rows, hosts={HOST: facts})


def text_of(benchmark: Benchmark) -> str:
    whole = page.render(Gathered(name="b", source=Path("b.json"), files=(), benchmark=benchmark))
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", " ", whole, flags=re.DOTALL)))


def test_both_machines_are_described_and_each_has_its_rows() -> None:
    both = replace(there(), rows=(*ROWS, *there().rows))
    text = text_of(both)
    assert "Batch 1, 2 threads on local" in text and "Batch 1, 2 threads on pi@one.local" in text
    _, _, machines = text.partition("Figures from another machine")
    assert " local " in machines and " pi@one.local " in machines
    assert "Cortex-A72 &lt;script&gt;" in machines
    assert "Governor ondemand" in machines and "48 to 72 °C" in machines


def test_a_page_about_another_machine_alone_has_nothing_of_this_one() -> None:
    text = text_of(replace(there(), machine={**BENCHMARK.machine, "processor": "This laptop"}))
    assert "This laptop" not in text
    assert "Machines" not in text


def test_emulated_rows_lead_nowhere() -> None:
    text = text_of(there("aarch64 on x86_64"))
    assert "The rows ran emulated, aarch64 on x86_64: how fast they are says nothing about a device." in text
    assert "on pi@one.local (emulated)" in text
    assert "Emulated aarch64 on x86_64" in text
    assert "All rows ran emulated: their latencies are no device" in text
    assert "◆ Pareto" not in text and "the fastest is" not in text
    real = text_of(there())
    assert "◆ Pareto" in real

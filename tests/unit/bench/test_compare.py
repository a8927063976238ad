import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.bench.scripted_bench import MACHINE, benchmark, candidate, rounds, setting, timed
from toolchain.accuracy.status import Status
from toolchain.bench import compare_table
from toolchain.bench.compare import Change, compare, of_another_machine, read, require_no_slowdown
from toolchain.bench.record import Benchmark, Row
from toolchain.errors import BadUsage, CheckFailed

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
OTHER_FILE = candidate("ort fp32", sha256="cd" * 32, size_bytes=10_000_000)
OLD = benchmark(
    timed("eager", 4.0, None),
    timed("ort fp32", 1.0, None),
    timed("ort fp16", 1.0, None, "fp16"),
    timed("ort int8-static", 0.25, None, "int8-static"),
    timed("eager", 4.0, None, repeats=True),
    timed("ort fp32", 1.0, None, setting=setting(batch=8)),
)
NEW = benchmark(
    timed("eager", 4.0, None, peak_memory_bytes=300_000_000),
    timed("ort fp32", 1.2, None, candidate=OTHER_FILE, facts={"tf32": "on"}),
    timed("ort fp16", 0.8, None, "fp16"),
    Row(
        candidate=candidate("ort int8-static", "int8-static"), setting=setting(), status=Status.FAILED, reason="Killed."
    ),
    timed("eager", 9.0, None, repeats=True),
    timed("ort fp32", 1.0, None, setting=setting(batch=32)),
    machine={
        **MACHINE,
        "processor": "Scripted 9001",
        "cores": 4,
        "libraries": {**MACHINE["libraries"], "onnxruntime": "1.32.0", "onnxscript": "1"},
    },
    data="the test split of cifar10",
)


def verdicts(old: Benchmark, new: Benchmark) -> dict[str, str]:
    return {change.new.candidate.label: change.verdict for change in compare(old, new).changes}


def one(old: float, new: float, **more: Any) -> Change:
    (change,) = compare(benchmark(timed("a", old, None)), benchmark(timed("a", new, None, **more))).changes
    return change


def test_each_row_is_judged_by_its_interval() -> None:
    assert verdicts(OLD, NEW) == {
        "eager": "no difference shown", "ort fp32": "slower", "ort fp16": "faster", "ort int8-static": "now failed",
    }  # fmt: skip


def test_the_markdown_is_the_golden_one() -> None:
    assert compare_table.markdown(compare(OLD, NEW)) == (GOLDEN / "compare.md").read_text(encoding="utf-8")


def test_the_json_is_the_golden_one() -> None:
    text = compare_table.to_json(compare(OLD, NEW))
    rounded = json.loads(text, parse_float=lambda number: float(f"{float(number):.4g}"))
    assert json.dumps(rounded, indent=1) + "\n" == (GOLDEN / "compare.json").read_text(encoding="utf-8")


def test_the_ratio_is_of_the_new_time_over_the_old() -> None:
    slowdown = one(1.0, 1.2).slowdown
    assert slowdown is not None
    assert slowdown.estimate == pytest.approx(1.2)
    assert slowdown.low < 1.2 < slowdown.high


def test_with_streams_it_is_of_throughput() -> None:
    def streams(rate: float) -> Benchmark:
        taken = rounds(5.0)
        return benchmark(
            timed(
                "a", 5.0, None, setting=setting(concurrency=4), rounds_ms=taken, rounds_runs=(100,) * 5,
                rounds_s=tuple(block[0] / 5.0 * 100 / rate for block in taken),
            )
        )  # fmt: skip

    found = compare(streams(1000.0), streams(500.0))
    (change,) = found.changes
    assert change.slowdown is not None
    assert change.slowdown.estimate == pytest.approx(2.0)
    assert change.verdict == "slower"
    assert any("by throughput" in line for line in compare_table.notes(found))


def test_one_round_shows_nothing_and_writes_no_infinity() -> None:
    single = benchmark(timed("a", 3.0, None, rounds_ms=((3.0,),), rounds_s=(0.003,), rounds_runs=(1,)))
    found = compare(benchmark(timed("a", 1.0, None)), single)
    assert found.changes[0].verdict == "no difference shown"
    assert json.loads(compare_table.to_json(found))["rows"][0]["slowdown"]["high"] is None
    require_no_slowdown(found)


def test_another_interpreter_is_matched_and_said() -> None:
    there = setting(python="/other/bin/python", cpus=(0, 1))
    change = one(1.0, 1.0, setting=there)
    assert [str(each) for each in change.differences] == [
        "interpreter none → /other/bin/python",
        "processors none → 0 1",
    ]


def test_the_same_interpreter_comes_before_another() -> None:
    here, there = timed("a", 1.0, None), timed("a", 2.0, None, setting=setting(python="p"))
    found = compare(benchmark(here, there), benchmark(there, here))
    assert [change.slowdown and change.slowdown.estimate for change in found.changes] == pytest.approx([1.0, 1.0])
    assert found.only_old == found.only_new == ()


def test_options_make_another_row() -> None:
    options = setting("cuda", options=(("use_tf32", "0"),))
    with pytest.raises(BadUsage, match="No row is in both"):
        compare(
            benchmark(timed("a", 1.0, None, setting=options)), benchmark(timed("a", 1.0, None, setting=setting("cuda")))
        )


def test_rows_that_recover_or_never_ran_are_said() -> None:
    failed = benchmark(Row(candidate=candidate("a"), setting=setting(), status=Status.FAILED))
    well = benchmark(timed("a", 1.0, None))
    unproven = benchmark(timed("a", 1.0, None, status=Status.UNPROVEN))
    assert verdicts(failed, well) == {"a": "was failed"}
    assert verdicts(failed, failed) == {"a": "failed"}
    assert verdicts(well, unproven) == {"a": "now unproven"}


def gate(old: Benchmark, new: Benchmark, **more: Any) -> list[str]:
    found = compare(old, new)
    require_no_slowdown(found, **more)
    return [change.name for change in found.changes]


def test_the_gate_wants_the_whole_interval_beyond_the_limit() -> None:
    old, slower = benchmark(timed("a", 1.0, None)), benchmark(timed("a", 1.1, None))
    change = one(1.0, 1.1)
    assert change.slowdown is not None
    assert gate(old, slower, max_slowdown=0.1) == ["a on cpu, batch 1, 2 threads"]
    assert gate(old, slower, max_slowdown=change.slowdown.low - 1 + 1e-9)
    with pytest.raises(CheckFailed, match=r"with 5 % allowed: a on cpu, batch 1, 2 threads takes 1\.10 times as long"):
        gate(old, slower)
    with pytest.raises(CheckFailed):
        gate(old, slower, max_slowdown=change.slowdown.low - 1 - 1e-9)


def test_the_gate_fails_for_what_ran_before_and_does_not_now() -> None:
    old = benchmark(timed("a", 1.0, None), timed("b", 1.0, None))
    new = benchmark(replace(old.rows[0], status=Status.FAILED, reason="x", rounds_ms=()), old.rows[1])
    with pytest.raises(CheckFailed, match="a on cpu, batch 1, 2 threads is now failed"):
        gate(old, new)
    assert gate(new, old)


def test_the_gate_says_when_there_is_nothing_to_judge() -> None:
    failed = benchmark(Row(candidate=candidate("a"), setting=setting(), status=Status.FAILED))
    with pytest.raises(BadUsage, match="No row was timed in both"):
        gate(failed, failed)
    with pytest.raises(BadUsage, match="No row is in both"):
        gate(benchmark(timed("a", 1.0, None)), benchmark(timed("b", 1.0, None)))


@pytest.mark.parametrize(
    ("what", "value"),
    [("processor", "Other"), ("architecture", "aarch64"), ("memory_bytes", 2**34), ("gpu", "H200, driver 5")],
)
def test_the_gate_refuses_another_machine_unless_told(what: str, value: object) -> None:
    old = benchmark(timed("a", 1.0, None))
    new = benchmark(timed("a", 1.0, None), machine={**MACHINE, what: value})
    with pytest.raises(BadUsage, match=f"another machine: {what.removesuffix('_bytes')} "):
        gate(old, new)
    assert gate(old, new, allow_other_machine=True)


def test_another_machine_that_is_allowed_is_said() -> None:
    there = {**MACHINE, "memory_bytes": 16 * 2**30, "processor": "Other"}
    (warning,) = of_another_machine({"local": MACHINE}, {"local": there}, allowed=True)
    assert warning == ("The baseline is from another machine: processor Scripted 9000 → Other, memory 8 GiB → 16 GiB.")


def test_what_the_system_allows_or_brings_makes_no_other_machine() -> None:
    old = {**MACHINE, "gpu": "H200, driver 5", "memory_bytes": 8 * 2**30 - 10**8}
    new = {**MACHINE, "gpu": "H200, driver 6", "system": "Linux 7", "libraries": {"torch": "3"}, "cores": 1}
    assert of_another_machine({"local": old}, {"local": new}, allowed=False) == ()
    found = compare(benchmark(timed("a", 1.0, None), machine=old), benchmark(timed("a", 1.0, None), machine=new))
    assert "usable cores 2 → 1" in [str(each) for each in found.surroundings]


def test_the_gate_says_what_it_compared_and_what_it_could_not() -> None:
    found = compare(
        benchmark(*(timed(label, 1.0, None) for label in ("same", "near", "slow", "broken", "gone"))),
        benchmark(
            timed("same", 1.0, None), timed("near", 1.05, None), timed("slow", 1.2, None),
            timed("broken", 1.0, None, status=Status.UNPROVEN), timed("new", 1.0, None), data="other data",
        ),
    )  # fmt: skip
    where = "on cpu, batch 1, 2 threads"
    assert compare_table.gate(found, max_slowdown=0.05) == [
        "Against the baseline, with 5 % allowed: 1 passed, 1 cannot tell, 1 too slow, 1 now unproven.",
        f"same {where}: 1.00x (0.99–1.01) the time, passed.",
        f"near {where}: 1.05x (1.04–1.06) the time, cannot tell.",
        f"slow {where}: 1.20x (1.19–1.21) the time, too slow.",
        f"broken {where}: 1.00x (0.99–1.01) the time, now unproven.",
        "Where it cannot tell, the limit lies inside the interval: measure longer with --max-time.",
        "Not the same: data the test split of digits → other data.",
        f"Only in the baseline: gone {where}.",
        f"Only in the new one: new {where}.",
    ]


def test_a_row_of_a_bench_that_was_cut_short_is_not_called_sound_or_broken() -> None:
    waiting = benchmark(Row(candidate=candidate("a"), setting=setting()))
    assert verdicts(waiting, waiting) == {"a": "not timed"}


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_or_a_folder_is_read(tmp_path: Path) -> None:
    file = written(tmp_path / "bench.json", OLD.to_json())
    assert read(file) == read(tmp_path)
    assert [row.name for row in read(file).rows] == [row.name for row in OLD.rows]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    wrong = {
        tmp_path / "missing.json": "There is no file",
        tmp_path / "empty": "There is no benchmark in",
        tmp_path / "binary.json": "is not a benchmark of nnx",
        written(tmp_path / "text.json", "hello"): "is not a benchmark of nnx",
        written(tmp_path / "other.json", '{"schema_version": 1}'): "schema version 1, this nnx reads 2",
    }
    for path, sentence in wrong.items():
        with pytest.raises(BadUsage, match=sentence) as caught:
            read(path)
        assert str(path) in caught.value.what


def test_all_intervals_of_a_json_are_numbers_or_null() -> None:
    for row in json.loads(compare_table.to_json(compare(OLD, NEW)))["rows"]:
        assert row["slowdown"] is None or all(math.isfinite(end) for end in row["slowdown"].values())

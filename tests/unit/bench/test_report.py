import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from runtimes.registry import PROVIDERS
from tests.unit.bench.scripted_bench import MACHINE, PROFILE, benchmark, candidate, setting, timed
from toolchain import run_report
from toolchain.accuracy.status import Status
from toolchain.bench import report
from toolchain.bench.figures import efficient, provider_share, throughput
from toolchain.bench.notes import unsuccessful, verdict
from toolchain.bench.record import Benchmark, Row
from toolchain.stats import Interval
from toolchain.steps import ModelStep, TrainStep
from toolchain.training.record import ACCURACY, Epoch

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
ON_CUDA = setting("cuda", options=(("device_id", "0"),))
MEASURED = benchmark(
    timed("eager", 4.0, None, nodes={}, facts={"torch": "2.13.0"}),
    timed("eager", 4.01, Interval(0.998, 0.991, 1.004), repeats=True, nodes={}, accuracy=None),
    timed("ort fp32", 1.0, Interval(4.0, 3.9, 4.1)),
    timed("ort fp16", 1.0, Interval(3.96, 3.95, 3.97), "fp16"),
    timed(
        "ort int8-static", 0.25, Interval(16.0, 15.5, 16.5), "int8-static", status=Status.UNPROVEN,
        reason="Its outputs differ from the baseline's: | all.",
    ),
    timed(
        "ort fp32", 0.1, Interval(40.1, 39.6, 40.4), setting=ON_CUDA, device_memory_bytes=1_200_000_000,
        nodes={"CUDAExecutionProvider": 299, "CPUExecutionProvider": 1},
        facts={"onnxruntime": "1.31.1", "tf32": "on", "cuda graphs": "off"}, first_run_ms=1540.0,
    ),
    Row(candidate=candidate("ort fp16", "fp16"), setting=ON_CUDA, status=Status.UNAVAILABLE, reason="No GPU. Get one."),
    warnings=("Other programs use 20 % of the processor: pin the rows with --cpus.",),
)  # fmt: skip


def markdown(measured: Benchmark) -> str:
    return report.markdown(report.table(measured.rows), report.notes(measured))


def test_the_markdown_is_the_golden_one() -> None:
    assert markdown(MEASURED) == (GOLDEN / "bench.md").read_text(encoding="utf-8")


def test_the_csv_is_the_golden_one() -> None:
    assert report.to_csv(MEASURED) == (GOLDEN / "bench.csv").read_text(encoding="utf-8")


def test_the_csv_has_the_ends_of_every_interval_and_empty_cells_for_what_is_not_known() -> None:
    rows = list(csv.DictReader(io.StringIO(report.to_csv(MEASURED))))
    for name in ("p50_ms", "p90_ms", "p99_ms", "throughput_per_s", "speedup", "accuracy"):
        assert float(rows[2][f"{name}_low"]) <= float(rows[2][name]) <= float(rows[2][f"{name}_high"])
        assert rows[6][name] == rows[6][f"{name}_low"] == ""
    assert (rows[5]["options"], rows[5]["facts"]) == (
        "device_id=0",
        "onnxruntime=1.31.1;tf32=on;cuda graphs=off",
    )
    assert "inf" not in report.to_csv(benchmark(timed("a", 1.0, Interval(2.0, 0.0, float("inf")))))


def test_no_rows_make_a_table_without_lines() -> None:
    assert report.table(()).lines == ()
    assert markdown(benchmark()).endswith("\n")
    assert report.to_csv(benchmark()) == "\n"


def column(heading: str, *rows: Row) -> list[str]:
    found = report.table(rows)
    return [line[found.headings.index(heading)] for line in found.lines]


def test_what_is_the_same_everywhere_has_no_column() -> None:
    one, two = timed("a", 1.0, None), timed("a", 1.0, None, setting=setting(threads=1, concurrency=2))
    assert not {"threads", "streams", "device MB"} & set(report.table([one]).headings)
    assert column("threads", one, two) == ["2", "1"]
    assert column("streams", one, two) == ["1", "2"]


def test_columns_to_drop_are_columns_that_are_there() -> None:
    assert set(report.table(MEASURED.rows).droppable) <= set(report.table(MEASURED.rows).headings)


def test_a_row_that_did_not_run_says_so_in_place_of_its_latency() -> None:
    assert column("p50 ms", *MEASURED.rows)[6] == "unavailable"
    assert report.table(MEASURED.rows).struck == {4}


def test_an_unproven_row_is_never_called_the_fastest() -> None:
    rows = [row for row in MEASURED.rows if row.setting.provider == "cpu"]
    assert verdict(rows) == ["batch 1, 2 threads: the fastest is ort fp32, not clearly ahead of ort fp16."]


def test_providers_in_the_same_circumstances_are_compared() -> None:
    assert verdict(MEASURED.rows) == ["batch 1, 2 threads: the fastest is ort fp32 on cuda:device_id=0."]


def test_the_fastest_is_the_one_with_the_largest_speed_up() -> None:
    rows = [timed("a", 3.0, Interval(2.0, 1.9, 2.1)), timed("b", 2.0, Interval(3.0, 2.9, 3.1))]
    assert verdict(rows) == ["batch 1, 2 threads: the fastest is b."]


def test_level_rows_are_told_by_their_rounds_beside_each_other() -> None:
    wide = Interval(2.0, 1.0, 3.0)  # over the baseline neither is known well; against each other they are
    assert verdict([timed("a", 1.1, wide), timed("b", 1.0, Interval(2.2, 1.2, 3.2))]) == [
        "batch 1, 2 threads: the fastest is b."
    ]


def test_each_circumstances_have_a_verdict() -> None:
    rows = [timed(label, 1.0, None, setting=setting(batch=batch)) for batch in (1, 8) for label in "ab"]
    assert len(verdict(rows)) == 2


def test_no_p99_from_a_handful_of_runs() -> None:
    row = timed("a", 1.0, None)
    assert row.runs == 100
    assert column("p99 ms", row) != ["–"]
    few = timed("a", 1.0, None, rounds_runs=(19,) * 5)
    assert "p99 ms" not in report.table([few]).headings


def test_a_share_below_one_never_reads_as_all() -> None:
    assert column("on provider", *MEASURED.rows)[5] == "99%"
    assert provider_share(MEASURED.rows[5]) == pytest.approx(299 / 300)
    assert provider_share(MEASURED.rows[0]) is None


def test_throughput_is_that_of_all_streams() -> None:
    four = setting(concurrency=4, batch=8)
    row = timed("a", 10.0, None, setting=four, rounds_s=(1.0,) * 5, rounds_runs=(90, 100, 100, 100, 110))
    assert throughput(row).estimate == pytest.approx(800)
    alone = timed("a", 10.0, None, setting=setting(batch=8))
    assert throughput(alone).estimate == pytest.approx(alone.throughput_per_s or 0)
    assert throughput(alone).low < throughput(alone).estimate < throughput(alone).high


def test_what_was_measured_once_has_two_digits() -> None:
    rows = [timed("a", 1.0, None, first_run_ms=value) for value in (0.391, 9.96, 12.3, 1540.0, 0.0)]
    assert column("first run ms", *rows) == ["0.39", "10", "12", "1,500", "0"]


def test_an_accuracy_has_the_digits_of_its_interval() -> None:
    many = timed("a", 1.0, None, accuracy=Interval(0.79731, 0.7968, 0.7978))
    assert report.accuracy(many) == "79.73% (79.68–79.78)"
    assert report.accuracy(timed("a", 1.0, None, accuracy=None, parity="exact")) == "exact"


def test_rows_that_none_beats_are_marked_in_their_circumstances_alone() -> None:
    fast, slow = timed("fast", 1.0, None), timed("slow", 2.0, None)
    elsewhere = [timed(label, 2.0, None, setting=setting(batch=8)) for label in ("slow", "level")]
    assert efficient([fast, slow, *elsewhere]) == {0, 2, 3}
    assert column("row", fast, slow, *elsewhere) == ["fast ◆", "slow", "slow ◆", "level ◆"]


def test_a_row_without_a_rival_is_not_marked() -> None:
    alone, failed = timed("a", 1.0, None), Row(candidate=candidate("b"), setting=setting(), status=Status.FAILED)
    assert efficient([alone, failed]) == set()


def test_notes_say_what_no_column_tells() -> None:
    pinned = setting(cpus=(0, 1), copies="exclude", concurrency=4, python="/other/python")
    found = report.notes(benchmark(timed("a", 1.0, None, setting=pinned)))
    assert "Each row: 2 threads, 4 streams, pinned to processors 0, 1, copies to and from a device not timed." in found
    assert "cpu ran in /other/python." in found


def test_an_interpreter_in_which_nothing_ran_is_not_said_to_have_run() -> None:
    there = setting("openvino", python="/other/python")
    rows = [
        timed("a", 1.0, None),
        Row(candidate=candidate("a"), setting=there, status=Status.FAILED, reason="Gone. Mend."),
    ]
    found = report.notes(benchmark(*rows))
    assert not any("ran in" in line for line in found)
    assert "a on openvino (/other/python): failed. Gone. Mend." in found


def test_where_a_row_went_wrong_is_said_unless_it_is_everywhere() -> None:
    def rows(label: str, *failing: int) -> list[Row]:
        return [
            Row(candidate=candidate(label), setting=setting(batch=batch), status=Status.FAILED, reason="No.")
            if batch in failing
            else timed(label, 1.0, None, setting=setting(batch=batch))
            for batch in (1, 8, 32)
        ]

    assert unsuccessful([*rows("all", 1, 8, 32), *rows("some", 8, 32)]) == [
        "all on cpu: failed. No.",
        "some on cpu at batch 8, 2 threads; batch 32, 2 threads: failed. No.",
    ]


def test_long_lists_are_cut() -> None:
    rows = [timed(f"m{number}", 1.0, None, facts={"tf32": "on"}) for number in range(7)]
    assert "TF32: on in m0, m1, m2, m3, m4 and 2 more." in report.notes(benchmark(*rows))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_of_half_precision_only_what_is_known_is_said(precision: str) -> None:
    row = timed("a", 1.0, None, nodes={})
    half = replace(row, candidate=replace(row.candidate, precision=precision))
    expected = f"{precision} on a CPU may be computed in fp32 with casts around it: --profile shows whether."
    assert [line for line in report.notes(benchmark(half)) if "CPU" in line] == [expected]
    for other in (row, replace(half, profile=PROFILE), replace(half, setting=setting("cuda"))):
        assert not any("CPU" in line for line in report.notes(benchmark(other)))


def test_baselines_that_differ_are_each_said() -> None:
    other = setting(batch=8)
    rows = [
        timed("eager", 1.0, None), timed("a", 1.0, Interval(1, 0.9, 1.1)), timed("ort", 1.0, None, setting=other),
        timed("b", 1.0, Interval(1, 0.9, 1.1), setting=other, baseline="ort on cpu"),
    ]  # fmt: skip
    expected = "Speed-ups are over eager on cpu (batch 1, 2 threads), ort on cpu (batch 8, 2 threads)."
    assert expected in report.notes(benchmark(*rows))


def test_a_provider_is_known_by_its_short_name() -> None:
    for provider in PROVIDERS.values():
        row = timed("a", 1.0, None, setting=setting(provider.name), nodes={provider.ort_name: 3, "Other": 1})
        assert provider_share(row) == 0.75, provider


def test_the_report_of_a_run_has_every_part() -> None:
    epoch = Epoch(
        number=1, loss=0.5, train_score=0.9, validation_score=0.8, seconds=1.0, samples_per_s=1000.0
    )  # fmt: skip
    train = TrainStep(
        epochs=(epoch,), measure=ACCURACY, test_score=0.99, validation_score=0.98, seconds=3.2, switched_on=("amp",)
    )  # fmt: skip
    model = ModelStep(precision="fp32", size_bytes=10_930_000, opset=20, parity="96 dB")
    text = run_report.render("digits", train, [model], MEASURED)
    for part in ("# digits", "| 1 | 0.5000 | 90.00% | 80.00% | 1,000 |", "| fp32 | 10.930 | 1.00x | 20 | 96 dB. |"):
        assert part in text
    assert markdown(MEASURED) in text
    assert "Scripted 9000, 2 cores" in text
    assert "`nnx bench artifacts/digits`" in text
    more = replace(MEASURED, machine={**MACHINE, "another fact": 1})
    assert run_report.render("digits", train, [model], more) == text

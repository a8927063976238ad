"""The published schema, the record, and what is written agree."""

import json
import math
from dataclasses import asdict, fields
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from tests.unit.bench.scripted_bench import PROFILE, benchmark, candidate, setting, timed
from toolchain import machine
from toolchain.accuracy.metrics.metric import Measure
from toolchain.accuracy.status import Status
from toolchain.bench import record as bench_record
from toolchain.bench import report
from toolchain.bench.record import Benchmark, Row
from toolchain.errors import BadUsage
from toolchain.stats import Interval

SCHEMA = json.loads(report.schema())
COMPUTED = {"schema_version", "latency_ms", "throughput_per_s"}
LATER = {"shapes", "metric", "host"}
"""What files of the same schema version lack that an earlier nnx wrote."""
FAILED = Row(candidate=candidate("compiled"), setting=setting(), status=Status.FAILED, reason="It was killed.")
ONE_ROUND = Interval(2.0, 0.0, math.inf)
WHOLE = benchmark(
    timed("eager", 4.0, None, facts={"torch": "2.13.0"}, nodes={}),
    timed("eager", 4.0, Interval(1.0, 0.99, 1.01), repeats=True),
    timed("ort fp32", 1.0, ONE_ROUND, profile=PROFILE, drop=Interval(0.0, -0.01, 0.01), parity="96 dB"),
    timed(
        "ort fp32", 1.0, Interval(4.0, 3.9, 4.1), device_memory_bytes=10**9, facts={"tf32": "on"}, setting=setting(
            "cuda", options=(("device_id", "0"),), concurrency=4, copies="exclude", cpus=(0, 1), python="p"
        ),
    ),
    FAILED,
    effort={"max_time_s": math.inf},
    warnings=("Other programs use 20 % of the processor.",),
)  # fmt: skip


def check(text: str) -> None:
    Draft202012Validator(SCHEMA).validate(json.loads(text, parse_constant=lambda name: pytest.fail(name)))


def test_it_is_a_schema_of_this_version() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema_version"]["const"] == bench_record.SCHEMA_VERSION
    assert SCHEMA["$id"].endswith(f":{bench_record.SCHEMA_VERSION}")


@pytest.mark.parametrize("rows", [WHOLE.rows, (FAILED,), ()], ids=["every kind", "failed", "none"])
def test_what_is_written_is_what_it_describes(rows: tuple[Row, ...]) -> None:
    check(benchmark(*rows).to_json())
    check(WHOLE.to_json())


def test_this_machine_is_what_it_describes() -> None:
    check(benchmark(machine=asdict(machine.describe())).to_json())


def test_what_an_earlier_nnx_of_this_version_wrote_is_read() -> None:
    written = json.loads(WHOLE.to_json())
    for row in written["rows"]:
        for name in LATER:
            row.pop(name, None)
    assert [dict(row.shapes) for row in Benchmark.from_json(json.dumps(written)).rows] == [{}] * len(WHOLE.rows)


def test_it_names_every_field_and_no_other() -> None:
    assert set(SCHEMA["properties"]) - COMPUTED == {each.name for each in fields(Benchmark)}
    parts = {
        "row": Row, "candidate": bench_record.Candidate, "setting": bench_record.Setting, "interval": Interval,
        "profile": bench_record.Profile, "node": bench_record.NodeShare, "unfused": bench_record.Unfused,
        "metric": Measure,
    }  # fmt: skip
    for name, kind in parts.items():
        described = SCHEMA["$defs"][name]
        assert set(described["properties"]) - COMPUTED == {each.name for each in fields(kind)}
        assert set(described["required"]) == set(described["properties"]) - LATER
        assert described["additionalProperties"] is False
    assert set(SCHEMA["$defs"]["machine"]["properties"]) <= {each.name for each in fields(machine.Machine)}


def test_a_file_that_knows_one_output_is_read() -> None:
    content = json.loads(WHOLE.to_json())
    for row in content["rows"]:
        row["candidate"]["output"] = row["candidate"].pop("outputs")[0]
    assert Benchmark.from_json(json.dumps(content)) == Benchmark.from_json(WHOLE.to_json())


def test_everything_it_names_is_described() -> None:
    for part in (SCHEMA, *SCHEMA["$defs"].values()):
        for described in part.get("properties", {}).values():
            target = SCHEMA["$defs"].get(described.get("$ref", "").rpartition("/")[2], {})
            assert (described.get("description") or target["description"]).endswith(".")


def changed(path: tuple[str | int, ...], value: Any) -> str:
    content = json.loads(WHOLE.to_json())
    place = content
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema_version",), 1),
        (("created",), "yesterday"),
        (("mood",), "good"),
        (("rows", 0, "mood"), "good"),
        (("rows", 0, "status"), "fine"),
        (("rows", 0, "candidate", "sha256"), "x"),
        (("rows", 0, "setting", "batch"), 0),
        (("rows", 0, "rounds_ms"), [1.0]),
        (("rows", 0, "rounds_ms"), [[]]),
        (("rows", 0, "rounds_ms"), "abc"),
        (("rows", 0, "rounds_ms", 0, 3), 0.0),
        (("rows", 0, "rounds_ms", 0, 3), 1e300),
        (("rows", 0, "rounds_s"), [0.0] * 5),
        (("rows", 0, "peak_memory_bytes"), "x"),
        (("rows", 0, "candidate", "size_bytes"), None),
        (("rows", 0, "setting", "batch"), "x"),
        (("rows", 0, "facts"), []),
        (("rows", 2, "speedup"), {"estimate": 2.0, "low": 1.0}),
        (("rows", 2, "speedup", "estimate"), None),
        (("rows", 2, "profile", "nodes", 0, "share"), 1.5),
        (("machine",), None),
        (("machine",), []),
        (("machine", "libraries"), None),
        (("rows",), {}),
    ],
)
def test_what_it_does_not_describe_is_refused(path: tuple[str | int, ...], value: Any) -> None:
    with pytest.raises(ValidationError):
        check(changed(path, value))
    with pytest.raises(BadUsage):
        Benchmark.from_json(changed(path, value))


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400])
def test_a_number_that_no_float_holds_is_refused(value: float) -> None:
    with pytest.raises(BadUsage, match="not a benchmark"):
        Benchmark.from_json(changed(("rows", 0, "load_ms"), value))


def test_a_row_has_as_many_rounds_of_each_kind() -> None:
    with pytest.raises(BadUsage, match="not as many"):
        Benchmark.from_json(changed(("rows", 0, "rounds_s"), [1.0]))


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(BadUsage) as caught:
        Benchmark.from_json(changed(("rows", 3, "candidate", "size_bytes"), None))
    assert caught.value.what == "The file is not a benchmark of nnx: rows[3].candidate.size_bytes is null."


def test_a_run_shorter_than_the_clocks_step_can_be_read_back() -> None:
    fast = benchmark(timed("a", 1.0, None, rounds_ms=((0.0, 0.001),), rounds_s=(1e-6,), rounds_runs=(2,)))
    check(fast.to_json())
    assert Benchmark.from_json(fast.to_json()).rows[0].rounds_ms == ((1e-5, 0.001),)


def test_what_is_written_is_read_back_infinite_ends_included() -> None:
    read = Benchmark.from_json(WHOLE.to_json())
    assert "Infinity" not in WHOLE.to_json()
    assert read.rows[2].speedup == ONE_ROUND
    assert read.rows[3].setting == WHOLE.rows[3].setting
    assert read.rows[2].profile == PROFILE
    assert read.rows[4] == FAILED
    assert Benchmark.from_json(read.to_json()).rows == read.rows


@pytest.mark.parametrize("text", ["", "[]", "{}", "7", '{"schema_version": 2}', "null"])
def test_what_is_no_benchmark_is_said(text: str) -> None:
    with pytest.raises(BadUsage, match="not a benchmark"):
        Benchmark.from_json(text)


def test_another_version_is_said() -> None:
    with pytest.raises(BadUsage, match="schema version 1"):
        Benchmark.from_json(changed(("schema_version",), 1))

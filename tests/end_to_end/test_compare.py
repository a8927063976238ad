"""`nnx compare`, and `nnx bench --baseline` as the gate of a CI."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.command import run_nnx
from tests.unit.bench.scripted_bench import MACHINE, benchmark, timed

ONE_ROW = ["--batch", "1", "--threads", "1", "--max-time", "3"]  # eight rounds: two may show nothing, truthfully


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with before.json, and after.json in which one row is slower."""
    folder = tmp_path_factory.mktemp("compared")
    for name, latency in (("before", 1.0), ("after", 1.2)):
        found = benchmark(timed("eager", 4.0, None), timed("ort fp32", latency, None), machine=MACHINE)
        (folder / f"{name}.json").write_text(found.to_json())
    return folder


@pytest.fixture(scope="module")
def now(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a bench of ONE_ROW has just measured here."""
    folder = tmp_path_factory.mktemp("now")
    assert run_nnx("bench", digits / "model.onnx", *ONE_ROW, "-o", "now.json", cwd=folder).returncode == 0
    found: dict[str, Any] = json.loads((folder / "now.json").read_text())
    return found


def test_the_table_says_what_is_slower(files: Path) -> None:
    ended = run_nnx("compare", "before.json", "after.json", cwd=files)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("ort fp32")]
    assert "1.20x (1.19–1.21)" in line
    assert "slower" in line


def test_json_and_markdown_come_alone(files: Path) -> None:
    as_json = run_nnx("compare", "before.json", "after.json", "--json", cwd=files)
    assert [row["verdict"] for row in json.loads(as_json.stdout)["rows"]] == ["no difference shown", "slower"]
    as_markdown = run_nnx("compare", "before.json", "after.json", "--markdown", cwd=files)
    assert as_markdown.stdout.startswith("| row |")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["before.json", "missing.json"], "There is no file missing.json."),
        (["before.json", "old.json"], "schema version 1"),
        (["before.json", "damaged.json"], 'rows[0].status is "weird"'),
        (["before.json", "after.json", "--json", "--markdown"], "Choose one"),
    ],
)
def test_wrong_input_is_one_clear_sentence(files: Path, arguments: list[str], sentence: str) -> None:
    (files / "old.json").write_text('{"schema_version": 1}')
    damaged = (files / "before.json").read_text().replace('"status": "ok"', '"status": "weird"')
    (files / "damaged.json").write_text(damaged)
    ended = run_nnx("compare", *arguments, cwd=files)
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


@pytest.mark.slow
def test_the_gate_fails_a_slower_row_and_refuses_another_machine(
    digits: Path, now: dict[str, Any], tmp_path: Path
) -> None:
    bench = ["bench", digits / "model.onnx", *ONE_ROW]
    write(tmp_path / "faster.json", now, 0.1, now["machine"])
    write(tmp_path / "elsewhere.json", now, 1.0, {**now["machine"], "processor": "Another"})

    slower = run_nnx(*bench, "--baseline", "faster.json", "--max-slowdown", "50%", cwd=tmp_path)
    assert slower.returncode == 1
    assert "takes" in slower.stderr
    assert "times as long" in slower.stderr
    assert "model" in slower.stdout  # the table is there all the same
    assert "Against the baseline, with 50 % allowed: 1 too slow." in slower.stdout

    elsewhere = run_nnx(*bench, "--baseline", "elsewhere.json", cwd=tmp_path)
    assert elsewhere.returncode == 2
    assert "another machine: processor Another" in elsewhere.stderr


@pytest.mark.slow
def test_the_gate_says_that_it_passed_and_warns_of_another_machine(
    digits: Path, now: dict[str, Any], tmp_path: Path
) -> None:
    bench = ["bench", digits / "model.onnx", *ONE_ROW]
    write(tmp_path / "elsewhere.json", now, 10.0, {**now["machine"], "processor": "Another"})

    passed = run_nnx(
        *bench, "--baseline", "elsewhere.json", "--allow-other-machine", "-o", "kept.json", "--json", cwd=tmp_path
    )
    assert passed.returncode == 0, passed.stderr
    assert "Against the baseline, with 5 % allowed: 1 passed." in passed.stderr
    assert "the time, passed." in passed.stderr
    (warning,) = [line for line in json.loads(passed.stdout)["warnings"] if "another machine" in line]
    assert warning in passed.stderr
    assert warning in json.loads((tmp_path / "kept.json").read_text())["warnings"]


def write(path: Path, measured: dict[str, Any], factor: float, machine: dict[str, Any]) -> None:
    """The same benchmark with latencies that are ``factor`` times as long."""
    rows = [
        {**row, "rounds_ms": [[sample * factor for sample in block] for block in row["rounds_ms"]]}
        for row in measured["rows"]
    ]
    path.write_text(json.dumps({**measured, "rows": rows, "machine": machine}))

"""`nnx bench` on real processes: streams, processors, interpreters, profiles, limits, and what is left after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import onnx_file
from runtimes.session_settings import stored_in
from tests.end_to_end.command import start_nnx
from toolchain.bench.record import Benchmark

Nnx = Callable[..., tuple[int, str, str]]
BRIEF = ["--batch", "2", "--threads", "1", "--max-time", "1ms"]


def perceptron(path: Path, width: int) -> None:
    """(batch, 16) -> (batch, 4), with ``width`` hidden units of which all but the first 8 do nothing."""
    draw = np.random.default_rng(0)
    first, second = draw.normal(size=(16, 8)), draw.normal(size=(8, 4))
    weights = {"a": np.pad(first, ((0, 0), (0, width - 8))), "b": np.pad(second, ((0, width - 8), (0, 0)))}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "a"], ["h"], "first"),
            helper.make_node("Relu", ["h"], ["r"], "relu"),
            helper.make_node("MatMul", ["r", "b"], ["scores"], "second"),
        ],
        "perceptron",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    onnx_file.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and a wider one, in which commands run."""
    perceptron(tmp_path / "model.onnx", 8)
    perceptron(tmp_path / "wide.onnx", 4096)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(answer: tuple[int, str, str]) -> list[dict[str, Any]]:
    code, out, err = answer
    assert code == 0, err
    rows: list[dict[str, Any]] = json.loads(out)["rows"]
    return rows


@pytest.mark.slow
def test_every_combination_is_measured(place: Path, nnx: Nnx) -> None:
    sweep = ["--batch", "1,4", "--threads", "1,2", "--concurrency", "1,3", "--max-time", "1ms"]
    rows = rows_of(nnx("bench", "model.onnx", *sweep, "--json"))
    found = {(row["setting"]["batch"], row["setting"]["threads"], row["setting"]["concurrency"]) for row in rows}
    assert found == {(batch, threads, streams) for batch in (1, 4) for threads in (1, 2) for streams in (1, 3)}
    assert all(row["status"] == "ok" and row["throughput_per_s"] > 0 for row in rows)
    # every stream makes at least ten runs a turn
    assert all(min(row["rounds_runs"]) >= 10 * row["setting"]["concurrency"] for row in rows)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not pin processes")
def test_rows_are_pinned_and_have_as_many_threads(place: Path, nnx: Nnx) -> None:
    cpu = max(os.sched_getaffinity(0))
    (row,) = rows_of(nnx("bench", "model.onnx", "--batch", "1", "--max-time", "1ms", "--cpus", cpu, "--json"))
    assert row["setting"]["cpus"] == [cpu]
    assert row["setting"]["threads"] == 1


def test_a_row_in_another_interpreter_takes_its_turn(place: Path, nnx: Nnx) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "other"], check=True)
    (libraries,) = place.glob("other/lib/python*/site-packages")
    (libraries / "ours.pth").write_text(str(Path(np.__file__).parents[1]))
    (row,) = rows_of(nnx("bench", "model.onnx", *BRIEF, "--python", "cpu=other/bin/python", "--json"))
    assert row["setting"]["python"] == str(place / "other" / "bin" / "python")
    assert row["nodes"] == {"CPUExecutionProvider": 3}


def test_an_interpreter_without_onnxruntime_is_unavailable(place: Path, nnx: Nnx) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "bare"], check=True)
    code, _, err = nnx("bench", "model.onnx", *BRIEF, "--python", "cpu=bare/bin/python")
    assert code == 3
    assert "has no numpy" in err


def test_profile_and_noise_floor(place: Path, nnx: Nnx) -> None:
    code, out, err = nnx("bench", "model.onnx", "wide.onnx", *BRIEF, "--profile", "--noise-floor", "-o", "b.json")
    assert code == 0, err
    measured = Benchmark.from_json((place / "b.json").read_text())
    assert [row.name for row in measured.rows] == ["model on cpu", "wide on cpu", "model again on cpu"]
    assert measured.rows[1].profile is not None
    assert "MatMul" in measured.rows[1].profile.op_types
    assert measured.rows[2].profile is None
    assert "slowest nodes" in out
    assert "over itself" in " ".join(measured.warnings)
    assert measured.command[:2] == ("nnx", "bench")


def test_speed_ups_are_over_the_reference(place: Path, nnx: Nnx) -> None:
    rows = rows_of(nnx("bench", "model.onnx", "wide.onnx", *BRIEF, "--reference", "wide", "--json"))
    assert [row["baseline"] for row in rows] == ["wide on cpu", "wide on cpu"]
    assert rows[0]["speedup"]["estimate"] > 0
    assert rows[1]["speedup"] is None


def test_a_time_out_shorter_than_a_run_is_said(place: Path, nnx: Nnx) -> None:
    code, out, err = nnx("bench", "model.onnx", *BRIEF, "--timeout", "1ms")
    assert code == 1
    assert "It took longer than 0.001 s to load." in out
    assert "model on cpu" in err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--provider", "abacus"], "abacus"),
        (["--provider", "cuda:threads"], "threads"),
        (["--provider", "cpu:abacus=1"], "abacus"),
        (["--batch", "0"], "whole numbers from 1 on"),
        (["--concurrency", "-1"], "whole numbers from 1 on"),
        (["--threads", "1,x"], "whole numbers from 1 on"),
        (["--cpus", "9-3"], "list of processors"),
        (["--cpus", "4000"], "may not run on processor 4000"),
        (["--precision", "0%"], "something like 2%"),
        (["--max-time", "-1s"], "something like 90s"),
        (["--timeout", "0s"], "something like 90s"),
        (["--copies", "both"], "include"),
        (["--python", "nowhere/python"], "no interpreter"),
        (["--reference", "eager"], "no row 'eager'"),
        (["--baseline", "missing.json"], "no file missing.json"),
        (["--baseline", "old.json"], "schema version 1"),
        (["--max-slowdown", "3%"], "without --baseline"),
        (["--max-drop", "nan"], "no number from 0 on"),
        (["--max-drop", "-1"], "no number from 0 on"),
        (["--data", "."], "would do nothing for model files"),
    ],
)
def test_bad_input_is_one_clear_sentence(options: list[str], sentence: str, place: Path, nnx: Nnx) -> None:
    (place / "old.json").write_text('{"schema_version": 1}')
    code, out, err = nnx("bench", "model.onnx", *options, "-o", "out.json")
    assert code == 2, err
    assert sentence in err
    assert "Traceback" not in err
    assert out == ""
    assert not (place / "out.json").exists()


def test_a_result_never_takes_a_models_place(place: Path, nnx: Nnx) -> None:
    before = (place / "model.onnx").read_bytes()
    code, _, err = nnx("bench", "model.onnx", *BRIEF, "-o", "./model.onnx")
    assert code == 2
    assert "is what is to be read" in err
    assert (place / "model.onnx").read_bytes() == before


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["wide.onnx", "model.onnx"], "unexpected extra argument"),
        (["."], "is a directory"),
        (["missing.onnx"], "no model file missing.onnx"),
        (["wide.onnx", "--batch", "1,2"], "not a valid integer"),
        (["wide.onnx", "--threads", "0"], "not in the range"),
        (["wide.onnx", "--provider", "cpu"], "No such option"),
        (["wide.onnx", "--samples", "missing.npz"], "no data file missing.npz"),
    ],
)
def test_tuning_takes_one_file_and_one_number_each(typed: list[str], sentence: str, place: Path, nnx: Nnx) -> None:
    code, out, err = nnx("tune", *typed)
    assert (code, out) == (2, "")
    assert sentence.lower() in err.lower()


@pytest.mark.slow
def test_tuning_ends_in_a_recommendation(place: Path, nnx: Nnx) -> None:
    code, out, err = nnx("tune", "wide.onnx", *BRIEF, "--json")
    assert code == 0, err
    found = json.loads(out)
    labels = [row["row"] for row in found["measurements"][0]]
    assert {"default", "basic optimization", "parallel execution", "no spinning", "no memory pattern"} <= set(labels)
    assert "InferenceSession" in found["code"]
    stored = stored_in(place / "wide.onnx")
    assert (stored is None) == (found["speedup"] is None)


@pytest.mark.slow
def test_a_killed_bench_leaves_its_rows_and_no_process(place: Path) -> None:
    bench = start_nnx(
        "bench", "wide.onnx", "model.onnx", "--batch", "1", "--max-time", "60s", "-o", "b.json", cwd=place
    )
    deadline = time.monotonic() + 60
    while not (place / "b.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = children_of(bench.pid)
    assert len(workers) == 2
    bench.send_signal(signal.SIGKILL)
    bench.communicate()
    kept = Benchmark.from_json((place / "b.json").read_text())
    assert [row.name for row in kept.rows] == ["wide on cpu", "model on cpu"]
    assert all(row.runs >= 10 for row in kept.rows)
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))
    assert not list(place.glob("*.partial"))


@pytest.mark.slow
def test_an_ended_bench_leaves_no_temporary_files(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(place / "temporary"))
    (place / "temporary").mkdir()
    bench = start_nnx("bench", "model.onnx", "--batch", "1", "--max-time", "60s", "-o", "b.json", cwd=place)
    deadline = time.monotonic() + 60
    while not (place / "b.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    bench.terminate()
    bench.communicate()
    assert bench.returncode == 128 + signal.SIGTERM
    assert not list((place / "temporary").glob("nnx-*"))


def children_of(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(number) for number in listed]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

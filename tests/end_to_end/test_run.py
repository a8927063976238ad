"""The main job, as a user runs it."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from exporters.atomic_file import sha256_of
from tests.end_to_end.command import run_nnx, start_nnx
from tests.end_to_end.conftest import QUICK
from toolchain.artifacts_folder import MODELS

LABELS = ["eager", "compiled", "ort fp32", "ort fp16", "ort int8-dynamic", "ort int8-static"]


def test_it_leaves_everything_and_one_table(work: Path, digits: Path) -> None:
    names = {path.name for path in digits.iterdir()}
    assert names >= {"checkpoint.pt", *MODELS.values(), "bench.json", "report.md", "manifest.json", "training.json"}
    assert not [name for name in names if name.endswith(".partial")]
    table = (work / "stdout.txt").read_text()
    for label in LABELS:
        assert table.count(f"{label} ") >= 2
    assert "the fastest is" in table
    assert "fp16 is computed in fp32 on this CPU" in table


def test_its_figures_hold(digits: Path) -> None:
    measured = json.loads((digits / "bench.json").read_text())
    rows = {(row["candidate"]["label"], row["setting"]["batch"]): row for row in measured["rows"]}
    assert set(rows) == {(label, batch) for label in LABELS for batch in (1, 8)}
    assert all(row["status"] == "ok" for row in rows.values())
    accuracy = {label: rows[label, 8]["accuracy"]["estimate"] for label in LABELS}
    assert accuracy["eager"] >= 0.97
    assert accuracy["eager"] - accuracy["ort int8-static"] <= 0.005 + 1e-9
    placed = [set(rows[label, 1]["nodes"]) for label in LABELS if label.startswith("ort")]
    assert all(nodes == {"CPUExecutionProvider"} for nodes in placed)
    assert all(row["profile"]["nodes"] for (label, _), row in rows.items() if label != "compiled")
    sizes = {name: (digits / file).stat().st_size for name, file in MODELS.items()}
    assert sizes["int8-static"] <= 0.35 * sizes["fp32"]
    assert sizes["fp16"] <= 0.55 * sizes["fp32"]


def test_the_report_tells_the_whole_story(digits: Path) -> None:
    text = (digits / "report.md").read_text()
    for heading in ("## Training", "## Model files", "## Benchmark", "## Where and how"):
        assert heading in text
    assert "int8-static" in text


@pytest.mark.slow
def test_a_second_run_reuses_every_step_and_says_so(work: Path, digits: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in digits.iterdir() if path.suffix in (".onnx", ".pt")}
    ended = run_nnx("run", "digits", *QUICK, cwd=work)
    assert ended.returncode == 0
    for step in ("train", "export", "fp16", "int8-dynamic", "int8-static", "bench"):
        assert f"{step}: reused" in ended.stderr
    assert ended.stdout == (work / "stdout.txt").read_text()
    assert before == {
        path.name: path.stat().st_mtime_ns for path in digits.iterdir() if path.suffix in (".onnx", ".pt")
    }


@pytest.mark.slow
def test_a_changed_option_or_file_redoes_what_hangs_on_it(work: Path, tmp_path: Path) -> None:
    shutil.copytree(work / "artifacts", tmp_path / "artifacts")
    (tmp_path / "artifacts" / "digits" / "model.fp16.onnx").write_bytes(b"damaged")
    ended = run_nnx("run", "digits", *QUICK, "--samples", "64", cwd=tmp_path)
    assert ended.returncode == 0
    assert "train: reused" in ended.stderr
    assert "export: reused" in ended.stderr
    assert "int8-dynamic: reused" in ended.stderr
    for step in ("fp16", "int8-static", "bench"):
        assert f"{step}: reused" not in ended.stderr
    same = "model.fp16.onnx"
    assert sha256_of(tmp_path / "artifacts/digits" / same) == sha256_of(work / "artifacts/digits" / same)


@pytest.mark.slow
def test_a_run_killed_anywhere_goes_on_to_the_same_result(tmp_path: Path) -> None:
    """SIGKILL after ever longer times; every file under a final name must be whole, and the end must be the same."""
    options = [*QUICK, "--epochs", "6", "--batch", "8"]
    whole = run_nnx("run", "digits", *options, "--out", tmp_path / "whole", cwd=tmp_path)
    assert whole.returncode == 0
    killed = 0
    for delay in (2.5, 4.0, 5.5, 7.0, 9.0):
        process = start_nnx("run", "digits", *options, "--out", tmp_path / "killed", cwd=tmp_path)
        time.sleep(delay)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.communicate()
    assert killed >= 2
    ended = run_nnx("run", "digits", *options, "--out", tmp_path / "killed", cwd=tmp_path)
    assert ended.returncode == 0
    for name in ("checkpoint.pt", *MODELS.values()):
        assert sha256_of(tmp_path / "killed" / name) == sha256_of(tmp_path / "whole" / name), name
    assert not list((tmp_path / "killed").glob(".*.partial"))


@pytest.mark.slow
def test_ctrl_c_exits_130_and_keeps_what_was_finished(tmp_path: Path) -> None:
    process = start_nnx("run", "digits", *QUICK, "--epochs", "500", cwd=tmp_path)
    resume = tmp_path / "artifacts" / "digits" / "resume.pt"
    deadline = time.monotonic() + 60
    while not resume.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert resume.exists()


@pytest.mark.slow
def test_a_copied_recipe_runs_from_its_file(tmp_path: Path) -> None:
    import toolchain.recipes.digits as original

    shutil.copy(str(original.__file__), tmp_path / "my_recipe.py")
    options = ["--epochs", "2", "--no-compile", "--batch", "8", "--threads", "1", "--max-time", "1ms", "--amp", "off"]
    ended = run_nnx("run", "my_recipe.py:recipe", *options, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "artifacts" / "my_recipe" / "report.md").exists()


@pytest.mark.parametrize(
    ("precision", "command"),
    [
        ("fp16", ["convert", "--fp16", "--calibration", "digits"]),
        ("int8-dynamic", ["quantize", "--int8", "--mode", "dynamic", "--eval", "digits", "--no-time"]),
        ("int8-static", ["quantize", "--int8", "--calibration", "digits", "--no-time"]),
    ],
)
def test_a_run_and_the_single_commands_make_the_same_file(
    precision: str, command: list[str], digits: Path, tmp_path: Path
) -> None:
    name, *options = command
    ended = run_nnx(name, digits / "model.onnx", *options, "-o", tmp_path / "again.onnx", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "again.onnx").read_bytes() == (digits / f"model.{precision}.onnx").read_bytes()
    assert "drop in accuracy" in ended.stdout

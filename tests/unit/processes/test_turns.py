"""Real worker processes, with jobs that misbehave."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from toolchain.doctor.probe import RELU
from toolchain.processes.turns import JobFailed, Turn


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, str]:
    np.save(tmp_path / "x.npy", np.zeros((2, 3), np.float32))
    return {"x": str(tmp_path / "x.npy")}


def bench(model: str, inputs: dict[str, str], *, python: str | None = None) -> Turn:
    spec = {
        "runtime": "ort", "model": model, "precision": "fp32", "weights": None, "outputs": ["y"], "provider": "cpu",
        "options": {}, "batch": 1, "threads": 1, "concurrency": 1, "copies": True, "inputs": inputs,
        "axes": {"inputs": {"x": 0}, "outputs": {"y": 0}, "fixed": None},
    }  # fmt: skip
    return Turn("toolchain.bench.row", spec, threads=1, python=python, timeout_s=60)


def test_an_error_in_the_job_arrives_with_what_to_do(tmp_path: Path, inputs: dict[str, str]) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    turn = bench(str(tmp_path / "broken.onnx"), inputs)
    with pytest.raises(JobFailed) as caught:
        turn.open()
    turn.close()
    assert caught.value.kind == "NotLoadable"
    assert "broken.onnx" in caught.value.what


def test_a_killed_worker_is_a_crash(tmp_path: Path, inputs: dict[str, str]) -> None:
    turn = bench("nothing.onnx", inputs)
    os.kill(turn._process.pid, signal.SIGKILL)
    with pytest.raises(JobFailed, match="killed"):
        turn.open()
    turn.close()


def test_a_worker_that_takes_too_long_is_ended(inputs: dict[str, str]) -> None:
    turn = Turn("toolchain.bench.row", {}, threads=1, timeout_s=0.01)
    with pytest.raises(JobFailed) as caught:
        turn.open()
    turn.close()
    assert caught.value.kind == "timeout"
    assert caught.value.what == "It took longer than 0.01 s to load."


def test_another_interpreter_sees_nnx_and_not_our_libraries(tmp_path: Path, inputs: dict[str, str]) -> None:
    other = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(other)], check=True)
    turn = Turn("toolchain.bench.row", {}, threads=1, python=str(other / "bin" / "python"), timeout_s=60)
    with pytest.raises(JobFailed, match="numpy"):
        turn.open()
    turn.close()


def test_a_bench_row_wants_numpy_and_onnxruntime_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "other")], check=True)
    (libraries,) = tmp_path.glob("other/lib/python*/site-packages")
    for found in Path(np.__file__).parents[1].glob("*"):
        if found.name in ("numpy", "numpy.libs", "onnxruntime"):
            (libraries / found.name).symlink_to(found)
    (tmp_path / "relu.onnx").write_bytes(RELU)
    np.save(tmp_path / "x.npy", np.ones(2, np.float32))
    python = str(tmp_path / "other" / "bin" / "python")
    turn = bench(str(tmp_path / "relu.onnx"), {"x": str(tmp_path / "x.npy")}, python=python)
    turn.open()
    assert turn.ask("start")["first_run_ms"] > 0
    turn.close()


def test_an_interpreter_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="cannot be started: No such file") as caught:
        Turn("toolchain.bench.row", {}, threads=1, python=str(tmp_path / "python"))
    assert caught.value.kind == "ProviderUnavailable"


def test_an_interpreter_that_talks_out_of_turn_is_a_crash(tmp_path: Path) -> None:
    talkative = tmp_path / "python"
    talkative.write_text(f'#!/bin/sh\necho activated\nexec {sys.executable} "$@"\n')
    talkative.chmod(0o755)
    turn = Turn("toolchain.bench.row", {}, threads=1, python=str(talkative), timeout_s=60)
    with pytest.raises(JobFailed, match="It said 'activated'"):
        turn.open()
    turn.close()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not pin processes")
def test_a_worker_is_pinned_before_anything_else() -> None:
    cpu = max(os.sched_getaffinity(0))
    turn = Turn("toolchain.bench.row", {}, threads=1, cpus=(cpu,), timeout_s=60)
    with pytest.raises(JobFailed):
        turn.open()
    assert os.sched_getaffinity(turn._process.pid) == {cpu}
    turn.close()


def test_a_dead_parent_leaves_no_worker(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from toolchain.processes.turns import Turn\n"
        "turn = Turn('bench', {}, threads=1)\n"
        "print(turn._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and Path(f"/proc/{worker}").exists():
        state = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{worker}").exists()

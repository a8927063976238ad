"""`nnx doctor` on this very machine, and on one made sick."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.command import run_nnx


def test_this_machine_can_do_the_main_job(tmp_path: Path) -> None:
    ended = run_nnx("doctor", "--json", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    told = json.loads(ended.stdout)
    assert told["schema_version"] == 1
    status = {check["name"]: check["status"] for check in told["checks"]}
    assert {status[name] for name in ("python", "torch", "onnx", "onnxruntime", "provider cpu")} == {"ok"}
    assert {"processor", "int8", "bf16", "cores", "disk", "gpu", "torch.compile cpu", "extra recipes"} <= set(status)
    assert str(tmp_path) in next(check["found"] for check in told["checks"] if check["name"] == "disk")


def test_a_folder_that_was_deleted_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    command = ["sh", "-c", 'rmdir "$PWD" && exec "$0" -m toolchain doctor --json', sys.executable]
    ended = subprocess.run(command, cwd=tmp_path / "gone", capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "gone" not in next(each["found"] for each in json.loads(ended.stdout)["checks"] if each["name"] == "disk")


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "it crashed (SIGSEGV)"),
        ("print('noise'); raise ImportError('libxyz.so: no such file')", "ImportError: libxyz.so: no such file"),
    ],
)
def test_a_broken_onnxruntime_is_told_and_harms_nothing(
    broken: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime.py").write_text(broken)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    ended = run_nnx("doctor", cwd=tmp_path)
    assert ended.returncode == 3
    line = next(line for line in ended.stdout.splitlines() if "provider cpu" in line)
    assert line.startswith("✗ missing")
    assert line.endswith(f"does not start: {why} → pip install --force-reinstall 'nnx-toolchain[cpu]'")
    assert ended.stdout.splitlines()[-1].startswith(f"{len(ended.stdout.splitlines()) - 2} checks: 1 missing")
    assert ended.stderr.startswith("nnx: Missing: provider cpu.")

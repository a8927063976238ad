"""Nothing is reported to anybody: onnxruntime's telemetry is off in every process that nnx starts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end import small_model

LOADS_ONNXRUNTIME = "import onnxruntime"
# onnxruntime reports nothing where it sees these: the test would pass for their sake
SWITCHES = ("ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI", "GITHUB_ACTIONS", "TF_BUILD")


def started(command: list[object], home: Path) -> "subprocess.CompletedProcess[str]":
    """Run without a network, with an empty ``home`` and none of the switches."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rn", "true"], check=False).returncode:
        pytest.skip("needs unshare -rn, for a process without a network")
    home.mkdir()
    (home / "tmp").mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in SWITCHES and not name.startswith("XDG_")}
    return subprocess.run(
        ["unshare", "-rn", *map(str, command)],
        env={**kept, "HOME": str(home), "TMPDIR": str(home / "tmp")},
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    small_model.write(tmp_path / "model.onnx")
    small_model.write_samples(tmp_path / "calib.npz")
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["quantize", "model.onnx", "--int8", "--calibration", "calib.npz", "--no-cache", "--no-time"],
        ["bench", "model.onnx", "--batch", "1", "--threads", "1", "--max-time", "200ms"],
        ["doctor"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_no_command_leaves_a_trace_or_opens_a_connection(place: Path, arguments: list[str]) -> None:
    home = place / "home"
    traced = (
        ["strace", "-f", "-qq", "-e", "trace=connect,sendto", "-o", str(place / "calls")]
        if shutil.which("strace")
        else []
    )
    ended = started([*traced, sys.executable, "-m", "toolchain", *arguments], home)
    assert ended.returncode in (0, 1, 3), ended.stderr
    assert files_below(home) == []
    calls = (place / "calls").read_text() if traced else ""
    assert "AF_INET" not in calls


def test_onnxruntime_by_itself_does_leave_one(place: Path) -> None:
    """Else the test above would see nothing for another reason."""
    home = place / "home"
    ended = started([sys.executable, "-c", LOADS_ONNXRUNTIME], home)
    assert ended.returncode == 0, ended.stderr
    if not files_below(home):
        pytest.skip("this onnxruntime was built without telemetry")
    assert any("deviceid" in name for name in files_below(home))


@pytest.mark.parametrize("package", ["toolchain", "exporters", "runtimes"])
@pytest.mark.parametrize("users", ["", "0"])
def test_whichever_package_is_loaded_first_turns_it_off(package: str, users: str) -> None:
    script = f"import {package}, os, sys; print(os.environ['ORT_DISABLE_TELEMETRY'], 'onnxruntime' in sys.modules)"
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": users}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["1", "False"]

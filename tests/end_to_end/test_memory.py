"""A command that gets less memory than it wants, is killed or crashes says so, with the code that tells the truth."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end import small_model
from tests.end_to_end.command import run_nnx, start_nnx

pytestmark = pytest.mark.slow  # each starts processes of its own

CRASHES = "import os, signal\ndef make():\n    os.kill(os.getpid(), signal.{name})\n"
WAITS = "import pathlib, time\ndef make():\n    pathlib.Path('there').touch()\n    time.sleep(60)\n"
QUANTIZE = ("quantize", "model.onnx", "--int8", "--calibration", "calib.npz", "--no-time", "--no-cache")


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "__pycache__")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone limits what a process may hold so")
@pytest.mark.parametrize(("weights_mb", "limit_mb"), [(64, 420), (64, 500)])
def test_a_model_that_wants_more_than_there_is(weights_mb: int, limit_mb: int, tmp_path: Path) -> None:
    """At whichever step that is found: by Python, by ONNX Runtime, by protobuf, or by a library that crashes."""
    features = int((weights_mb * 2**20 / 4) ** 0.5)
    small_model.write(tmp_path / "model.onnx", features=features)
    small_model.write_samples(tmp_path / "calib.npz", features=features, count=16)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    before = files_in(tmp_path)
    limit = (limit_mb * 2**20, resource.RLIM_INFINITY)
    ended = subprocess.run(
        [sys.executable, "-m", "toolchain", *QUANTIZE], cwd=tmp_path, env={**os.environ, "TMPDIR": str(temporary)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, limit),
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ended.returncode == 3, ended.stderr
    assert "There is not enough memory." in ended.stderr or "most likely for want of memory" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert files_in(tmp_path) == before
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("timeout", [[], ["--timeout", "60s"]])
def test_what_the_kernel_kills_is_told(timeout: list[str], tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(WAITS)
    running = start_nnx("export", "net.py:make", *timeout, cwd=tmp_path)
    while not (tmp_path / "there").exists():
        assert running.poll() is None
        time.sleep(0.05)
    (child,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 3
    assert "It was killed, most likely for want of memory." in said


def test_a_crash_that_is_none_of_memory_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(CRASHES.format(name="SIGSEGV"))
    ended = run_nnx("export", "net.py:make", cwd=tmp_path)
    assert ended.returncode == 70
    assert "A library crashed (SIGSEGV)." in ended.stderr


@pytest.mark.parametrize("timeout", [[], ["--timeout", "60s"]])
def test_a_child_s_exit_code_is_the_command_s(timeout: list[str], tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def make():\n    return 1\n")
    ended = run_nnx("export", "net.py:make", *timeout, cwd=tmp_path)
    assert ended.returncode == 2
    assert "net.py:make() is a int, not a module." in ended.stderr


def waiting(place: Path) -> tuple["subprocess.Popen[str]", str]:
    """A command whose child waits in a user's code, and that child's number."""
    (place / "net.py").write_text(WAITS)
    running = start_nnx("export", "net.py:make", cwd=place)
    while not (place / "there").exists():
        assert running.poll() is None
        time.sleep(0.05)
    (child,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    return running, child


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_both_once(number: int, tmp_path: Path) -> None:
    running, child = waiting(tmp_path)
    running.send_signal(number)
    running.communicate(timeout=60)
    assert running.returncode == (130 if number == signal.SIGINT else 128 + number)
    assert not Path(f"/proc/{child}").exists()


def test_no_child_outlives_a_killed_parent(tmp_path: Path) -> None:
    running, child = waiting(tmp_path)
    running.kill()
    running.communicate(timeout=60)
    end = time.monotonic() + 30
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < end
        time.sleep(0.05)

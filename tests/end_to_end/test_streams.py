"""What goes to which stream; streams of another encoding, closed ones, and ones whose reader leaves."""

import contextlib
import fcntl
import json
import os
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.command import run_nnx, start_nnx
from tests.unit.bench.scripted_bench import MACHINE, benchmark, timed

Nnx = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with a benchmark, a.json."""
    made = tmp_path_factory.mktemp("streams")
    found = benchmark(timed("eager", 4.0, None), timed("ort fp32", 1.0, None), machine=MACHINE)
    (made / "a.json").write_text(found.to_json())
    return made


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_character_that_the_encoding_lacks_is_no_crash(
    encoding: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    command = [sys.executable, "-m", "toolchain", "compare", "a.json", "a.json"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.decode(encoding).startswith("a.json ? a.json\n")  # an arrow, which neither has


@pytest.mark.parametrize(("options", "code"), [("", 0), ("--json", 0)])
def test_a_reader_that_leaves_changes_no_exit_code(options: str, code: int, folder: Path) -> None:
    script = f'set -o pipefail; "$0" -m toolchain compare a.json a.json {options} | true'
    ended = subprocess.run(
        ["bash", "-c", script, sys.executable], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (code, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize(("name", "code"), [("a.json", 0), ("missing.json", 2)])
def test_a_closed_stream_changes_no_exit_code(closed: str, name: str, code: int, folder: Path) -> None:
    command = ["sh", "-c", f'exec "$0" -m toolchain compare a.json {name} {closed}', sys.executable]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == code
    assert ("There is no file missing.json." in ended.stderr) == (code == 2 and "2>&-" not in closed)
    assert "Traceback" not in ended.stderr


LOUD = """
import ctypes, os, subprocess, sys
import torch

def shout(where):
    print(f"printed {where}")
    if "SAY_IT_IN_PYTHON" in os.environ:
        return
    sys.__stdout__.write(f"written {where}\\n")
    os.write(1, f"told descriptor 1 {where}\\n".encode())
    ctypes.CDLL(None).puts(f"said in C {where}".encode())
    subprocess.run(["echo", f"a child {where}"], check=True)

shout("at import")

class Net(torch.nn.Linear):
    def forward(self, x):
        print("printed in forward")
        return super().forward(x)

def make():
    shout("in the factory")
    return Net(4, 2), {"x": torch.zeros(2, 4)}
"""


def loud_export(folder: Path) -> list[str]:
    """The command that exports a module whose file prints in every way there is."""
    (folder / "loud.py").write_text(LOUD)
    return ["export", "loud.py:make", "-o", str(folder / "loud.onnx"), "--json"]


@pytest.mark.slow
def test_stdout_carries_results_alone_whatever_a_module_prints(tmp_path: Path) -> None:
    ended = run_nnx(*loud_export(tmp_path), cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["precision"] == "fp32"
    for way in ("printed", "written", "told descriptor 1", "said in C", "a child"):
        for where in ("at import", "in the factory"):
            assert f"{way} {where}" in ended.stderr
    assert "printed in forward" in ended.stderr


def test_so_it_does_inside_another_process(tmp_path: Path, nnx: Nnx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = nnx(*loud_export(tmp_path))
    assert code == 0, err
    assert json.loads(out)["precision"] == "fp32"
    assert "a child in the factory" in err


@pytest.mark.parametrize(("name", "code"), [("a.json", 0), ("missing.json", 2)])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_of_stderr_that_leaves_changes_nothing(
    name: str, code: int, unbuffered: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    ended, out = without_reader_of_stderr("compare", "a.json", name, cwd=folder)
    assert ended == code
    assert out.startswith("a.json → a.json\n" if code == 0 else "")


@pytest.mark.slow
def test_nor_does_it_end_a_job_that_tells_its_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAY_IT_IN_PYTHON", "1")
    ended, out = without_reader_of_stderr(*loud_export(tmp_path)[:-1], cwd=tmp_path)
    assert ended == 0
    assert out.startswith(f"{tmp_path / 'loud.onnx'}: fp32, ")


def without_reader_of_stderr(*arguments: object, cwd: Path) -> tuple[int, str]:
    """Exit code and stdout of ``nnx`` whose stderr nobody reads."""
    running = start_nnx(*arguments, cwd=cwd)
    assert running.stderr is not None and running.stdout is not None
    running.stderr.close()
    with running.stdout as pipe:
        out = pipe.read()
    return running.wait(), out


def test_results_know_the_terminal_that_they_go_to(folder: Path) -> None:
    """Also when it is the only stream that leads to one."""
    shown, shell = os.openpty()
    fcntl.ioctl(shell, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 44, 0, 0))
    command = [sys.executable, "-m", "toolchain", "compare", "a.json", "a.json"]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    with subprocess.Popen(
        command, cwd=folder, env=environment | {"TERM": "xterm"}, stdin=subprocess.DEVNULL, stdout=shell,
        stderr=subprocess.PIPE,
    ) as running:  # fmt: skip
        os.close(shell)
        said = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while part := os.read(shown, 4096):
                said += part
    os.close(shown)
    assert running.returncode == 0
    assert b"\x1b[1m" in said
    assert "Not shown for want of width" in said.decode()

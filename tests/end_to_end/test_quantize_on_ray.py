"""`nnx quantize --ray`: as a command, interrupted, where nobody answers, and where Ray is not installed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end import small_model
from tests.end_to_end.command import run_nnx, start_nnx

Nnx = Callable[..., tuple[int, str, str]]


@pytest.fixture
def asked(tmp_path: Path) -> tuple[str, ...]:
    small_model.write(tmp_path / "m.onnx")
    small_model.write_samples(tmp_path / "c.npz", count=400)
    return "quantize", str(tmp_path / "m.onnx"), "--int8", "--calibration", str(tmp_path / "c.npz"), "--no-time"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files with a name that is short enough for Ray."""
    folder = Path(tempfile.mkdtemp(prefix="nnx", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def of_ray(folder: Path) -> list[str]:
    """The living processes that were started with ``folder`` for temporary files."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if f"TMPDIR={folder}".encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return [each for each in found if "ray" in each]


def test_a_cluster_of_this_machine_makes_the_same_file_and_ends(
    asked: tuple[str, ...], tmp_path: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'nnx-toolchain[ray]'")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    made = [
        run_nnx(*asked, "--json", "--no-cache", "-o", f"{name}.onnx", *more, cwd=tmp_path)
        for name, more in (("here", ()), ("ray", ("--ray", "auto")))
    ]
    assert [each.returncode for each in made] == [0, 0], made[1].stderr
    one, other = (json.loads(each.stdout) for each in made)
    assert one["sha256"] == other["sha256"]
    assert "Ray" not in made[1].stderr.replace("Ray Serve", "")
    assert not of_ray(short)
    assert list(short.iterdir()) == []
    assert not list((tmp_path / "home").glob(".ray/*"))


def wait_for(running: "subprocess.Popen[str]", folder: Path, what: str) -> None:
    """Until a process of Ray has begun, or until nnx says that it works."""
    until = time.monotonic() + 120
    assert running.stderr is not None
    while what == "starting" and not any("raylet" in each for each in of_ray(folder)):
        assert running.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    while what == "working" and "calibrating on" not in running.stderr.readline():
        assert running.poll() is None


@pytest.mark.parametrize(
    ("number", "code", "what"),
    [(signal.SIGINT, 130, "working"), (signal.SIGTERM, 143, "starting")],
)
def test_ended_by_a_signal_it_leaves_no_process_of_ray(
    number: signal.Signals, code: int, what: str, asked: tuple[str, ...], tmp_path: Path,
    short: Path,
) -> None:  # fmt: skip
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'nnx-toolchain[ray]'")
    running = start_nnx(*asked, "--no-cache", "--ray", "auto", cwd=tmp_path)
    wait_for(running, short, what)
    running.send_signal(number)
    _, told = running.communicate(timeout=60)
    assert running.returncode == code, told
    assert "Traceback" not in told
    assert of_ray(short) == []
    assert not (tmp_path / "m.int8-static.onnx").exists()
    assert list(short.iterdir()) == []


def test_where_nobody_answers_one_sentence_says_so(asked: tuple[str, ...], nnx: Nnx) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'nnx-toolchain[ray]'")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    began = time.monotonic()
    code, out, err = nnx(*asked, "--ray", f"127.0.0.1:{port}")
    assert (code, out) == (3, "")
    assert f"No Ray cluster answers at 127.0.0.1:{port}" in err
    assert time.monotonic() - began < 20  # Ray itself tries for two minutes
    code, _, err = nnx(*asked, "--ray", "nonsense")
    assert code == 2
    assert "nonsense is no address of a Ray cluster." in err


def test_without_ray_the_line_that_installs_it_is_told(
    asked: tuple[str, ...], nnx: Nnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    code, out, err = nnx(*asked, "--ray", "auto")
    assert (code, out) == (3, "")
    assert "pip install 'nnx-toolchain[ray]'" in err


def test_signals_and_the_environment_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'nnx-toolchain[ray]'")
    from toolchain.processes import ray_cluster

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    told: list[int] = []
    earlier = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    before = {name: os.environ.get(name) for name in os.environ if name.startswith("RAY")}
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with ray_cluster.joined("auto", cores=1) as workers:
        assert workers.count == 1
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    signal.raise_signal(signal.SIGTERM)  # whatever Python believes, Ray may have told the kernel something else
    signal.signal(signal.SIGTERM, earlier)
    assert told == [signal.SIGTERM]
    handlers[1] = earlier
    assert {name: os.environ.get(name) for name in os.environ if name.startswith("RAY")} == before
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers

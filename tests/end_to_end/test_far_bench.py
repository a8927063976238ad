"""`nnx bench --host` and `nnx doctor --host` over a real sshd, over a bad network too, and to an emulated arm64."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import loopback_sshd, slow_network
from tests import emulated_arm64
from tests.end_to_end import small_model
from tests.end_to_end.command import run_nnx, start_nnx

Nnx = Callable[..., tuple[int, str, str]]
QUICK = ("--batch", "1", "--threads", "1", "--max-time", "1s")
DELAY_MS = 150


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models, samples, and a package of both."""
    folder = tmp_path_factory.mktemp("models")
    small_model.write(folder / "small.onnx", features=128)
    small_model.write_samples(folder / "samples.npz", features=128)
    for arguments in (
        ("quantize", "small.onnx", "--int8", "--calibration", "samples.npz", "-o", "small.int8-static.onnx"),
        ("pack", "small.onnx", "small.int8-static.onnx", "--samples", "samples.npz", "-o", "small.ortpackage"),
    ):
        ended = run_nnx(*arguments, cwd=folder)
        assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture
def place(models: Path, sshd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The models' folder; what the device leaves in its temporary folder lies in ``tmp_path``."""
    return entered(models, sshd, tmp_path, monkeypatch)


def entered(models: Path, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With the ``ssh`` of ``programs``, which sets the temporary folder there."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "there").mkdir()
    ssh = tmp_path / "bin" / "ssh"  # the last word is the command there
    ssh.write_text(f'#!/bin/bash\nexec {programs}/ssh "${{@:1:$#-1}}" "export TMPDIR={tmp_path}/there; ${{@: -1}}"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(models)
    return models


def left(tmp_path: Path) -> list[str]:
    for _ in range(100):
        if not (found := sorted(path.name for path in (tmp_path / "there").iterdir())):
            break
        time.sleep(0.05)
    return found


def rows_of(out: str) -> dict[tuple[str, str | None], Any]:
    return {(row["candidate"]["label"], row["setting"].get("host")): row for row in json.loads(out)["rows"]}


def medians(out: str) -> dict[str, float]:
    return {label: row["latency_ms"]["p50"] for (label, _), row in rows_of(out).items()}


def test_rows_here_and_there_stand_in_one_table_and_nothing_is_left(place: Path, tmp_path: Path, nnx: Nnx) -> None:
    code, out, err = nnx(
        "bench", "small.onnx", "small.int8-static.onnx", "--samples", "samples.npz", *QUICK, "--host", "local",
        "--host", "ssh://device", "--python", sys.executable, "-o", tmp_path / "bench.json",
    )  # fmt: skip
    assert code == 0, err
    lines = [line.split() for line in out.splitlines()]
    assert lines[1][:2] == ["row", "host"]
    hosts = [next(word for word in line if word in ("local", "device")) for line in lines[2:6]]
    assert hosts == ["local", "local", "device", "device"]
    found = rows_of((tmp_path / "bench.json").read_text())
    assert set(found) == {(label, host) for label in ("small", "small.int8-static") for host in (None, "ssh://device")}
    assert all(row["status"] == "ok" for row in found.values())
    ours, theirs = found["small.int8-static", None], found["small.int8-static", "ssh://device"]
    assert ours["parity"] == theirs["parity"] and ours["parity"].endswith(" dB")
    assert {row["baseline"] for row in found.values()} == {"small on cpu"}
    assert left(tmp_path) == []
    code, out, err = nnx("report", tmp_path / "bench.json", "-o", tmp_path / "page.html")
    assert code == 0, err
    page = (tmp_path / "page.html").read_text()
    assert "Batch 1, 1 thread on device" in page and "Machines" in page


def test_a_package_is_sent_once_where_a_folder_is_named(place: Path, tmp_path: Path, nnx: Nnx) -> None:
    kept = tmp_path / "kept"
    command = (
        "bench",
        "small.ortpackage",
        *QUICK,
        "--host",
        f"ssh://device{kept}",
        "--python",
        sys.executable,
        "--json",
    )
    code, out, err = nnx(*command)
    assert code == 0, err
    assert [label for label, _ in rows_of(out)] == ["fp32", "int8-static"]
    assert json.loads(out)["data"] == "the golden inputs of small.ortpackage"
    assert [path.name for path in kept.iterdir()] == ["files"]
    times = {path: path.stat().st_mtime_ns for path in (kept / "files").iterdir()}
    assert len(times) == 3  # two models, one input
    assert nnx(*command)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in (kept / "files").iterdir()} == times


def test_a_package_that_was_changed_is_not_sent(place: Path, tmp_path: Path, nnx: Nnx) -> None:
    changed = shutil.copytree(place / "small.ortpackage", tmp_path / "small.ortpackage")
    with (Path(changed) / "README.md").open("a") as file:
        file.write("more\n")
    code, out, err = nnx("bench", changed, *QUICK, "--host", "ssh://device", "--python", sys.executable)
    assert (code, out) == (1, "")
    assert "is not what it should be" in err


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_in_its_rounds_nothing_goes_on_there(
    how: signal.Signals, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "bench.json"
    process = start_nnx(
        "bench", "small.onnx", *QUICK[:-1], "60s", "--host", "ssh://device", "--python", sys.executable, "-o", output,
        cwd=place,
    )  # fmt: skip
    for _ in range(600):
        if output.exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()[1]
    (folder,) = (tmp_path / "there").iterdir()
    process.send_signal(how)
    process.communicate(timeout=30)
    assert left(tmp_path) == []
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(folder) not in listed


@pytest.mark.slow
def test_a_connection_that_breaks_is_the_rows_reason(place: Path, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    process = start_nnx(
        "bench", "small.onnx", *QUICK[:-1], "30s", "--host", "ssh://device", "--python", sys.executable, "-o", output,
        cwd=place,
    )  # fmt: skip
    for _ in range(600):
        if output.exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    (ssh,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(ssh), signal.SIGKILL)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "small on cpu: failed." in out
    assert "nnx doctor --host ssh://device" in out
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--host", "ssh://nowhere.invalid"], 3, "nowhere.invalid cannot be used: ssh did not get through"),
        (
            ["--host", "ssh://device", "--python", "/nowhere"],
            3,
            "/nowhere is not there, or has no numpy and onnxruntime",
        ),
        (["--host", "ssh://device", "--host", "ssh://device/x"], 2, "A host is named twice"),
        (["--host", "device"], 2, "'device' is no host"),
        (["--host", "ssh://device", "--concurrency", "2"], 2, "--concurrency would do nothing on other machines"),
        (["--host", "ssh://device", "--copies", "exclude"], 2, "--copies would do nothing on other machines"),
        (["--host", "ssh://device", "--profile"], 2, "--profile would do nothing on other machines"),
        (
            ["--host", "ssh://device", "--provider", "cuda", "--python", sys.executable],
            3,
            "has no CUDAExecutionProvider",
        ),
        (["--host", "ssh://device", "--cpus", "4000", "--python", sys.executable], 2, "may not run on processor 4000"),
        (["--python", "ssh://device=/x"], 2, "is for a host that is not asked for"),
    ],
)
def test_bad_input_gets_a_sentence(arguments: list[str], code: int, said: str, place: Path, nnx: Nnx) -> None:
    ended, _, err = nnx("bench", "small.onnx", *QUICK, *arguments)
    assert ended == code
    assert said in " ".join(err.split())
    assert "Traceback" not in err


def test_the_doctor_looks_at_it(place: Path, nnx: Nnx) -> None:
    code, out, err = nnx("doctor", "--host", "ssh://device", "--python", sys.executable, "--json")
    assert code == 0, out + err
    told = json.loads(out)
    assert told["host"] == "ssh://device"
    found = {check["name"]: check for check in told["checks"]}
    assert {
        "ssh",
        "system",
        "tools",
        "python",
        "onnxruntime",
        "memory",
        "disk",
        "processor",
        "clock",
        "load",
        "time",
    } <= set(found)
    assert {found[name]["status"] for name in ("ssh", "tools", "python", "onnxruntime", "time")} == {"ok"}
    code, out, err = nnx("doctor", "--host", "ssh://device", "--python", "/nowhere")
    assert code == 3
    assert "✗ missing  python" in out
    assert "Missing: python." in err
    code, out, _ = nnx("doctor", "--host", "ssh://device:1")
    assert code == 3
    assert "Connection refused" in out
    assert nnx("doctor", "--python", "x")[0] == 2


@pytest.mark.slow
def test_an_emulated_arm64_answers_as_here_and_is_called_emulated(place: Path, tmp_path: Path, nnx: Nnx) -> None:
    python = emulated_arm64.python()
    code, out, err = nnx(
        "bench", "small.onnx", "small.int8-static.onnx", "--samples", "samples.npz", *QUICK,
        "--host", "ssh://device", "--python", python, "--json",
    )  # fmt: skip
    assert code == 0, err
    told = json.loads(out)
    machine = told["hosts"]["ssh://device"]
    assert (machine["architecture"], machine["emulated"]) == ("aarch64", "aarch64 on x86_64")
    assert [row["status"] for row in told["rows"]] == ["ok", "ok"]
    assert {row["facts"]["emulated"] for row in told["rows"]} == {"aarch64 on x86_64"}
    (tmp_path / "bench.json").write_text(out)
    assert nnx("report", tmp_path / "bench.json", "-o", tmp_path / "page.html")[0] == 0
    page = (tmp_path / "page.html").read_text()
    assert "how fast they are says nothing about a device" in page and "on device (emulated)" in page
    assert "the fastest is" not in page
    code, out, err = nnx("doctor", "--host", "ssh://device", "--python", python)
    assert code == 0
    assert "! warn     emulation" in out
    assert left(tmp_path) == []


@pytest.fixture
def far_away(tmp_path: Path) -> Iterator[Path]:
    """A folder with an `ssh` that reaches `device` through a slow network that loses packets."""
    (tmp_path / "ssh").mkdir()
    try:
        with (
            slow_network.between(delay_s=DELAY_MS / 1e3, loss=0.05) as within,
            loopback_sshd.serving(tmp_path / "ssh", address=slow_network.FAR, within=within) as programs,
        ):
            yield programs
    except (slow_network.NoNetwork, loopback_sshd.NoServer) as why:
        pytest.skip(str(why))


@pytest.mark.slow
def test_latencies_are_the_machines_own_whatever_the_network(
    far_away: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nnx: Nnx
) -> None:
    """300 ms there and back, a twentieth of it lost: what takes microseconds takes microseconds."""
    entered(models, far_away, tmp_path, monkeypatch)
    began = time.monotonic()
    assert subprocess.run(["ssh", "device", "true"], check=True).returncode == 0
    assert time.monotonic() - began > 4 * DELAY_MS / 1e3
    code, out, err = nnx(
        "bench", "small.onnx", *QUICK, "--host", "local", "--host", "ssh://device", "--python", sys.executable,
        "--json",
    )  # fmt: skip
    assert code == 0, err
    here, there = rows_of(out).values()
    assert there["latency_ms"]["p99"] < 2 * DELAY_MS / 4
    assert 1 / 3 < there["latency_ms"]["p50"] / here["latency_ms"]["p50"] < 3
    assert left(tmp_path) == []

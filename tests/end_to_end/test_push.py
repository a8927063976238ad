"""`nnx push` to a real sshd on this machine, with keys of its own, and what it says of bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end import small_model
from tests.end_to_end.command import run_nnx, start_nnx
from toolchain.shipping import checksums, keys, signature

Nnx = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(tmp_path: Path, sshd: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two packages, and `ssh` that knows the device."""
    monkeypatch.setenv("PATH", f"{sshd}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1; 2, which is signed; 3, signed too, which gives other answers, as a wrong kernel would."""
    folder = tmp_path_factory.mktemp("packages")
    small_model.write(folder / "small.onnx")
    ended = run_nnx("pack", "small.onnx", "-o", "1/small.ortpackage", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    pair = keys.new(folder / "release")
    for number in "123":
        package = folder / number / "small.ortpackage"
        if number != "1":
            shutil.copytree(folder / "1", folder / number)
        told = json.loads((package / "nnx" / "package.json").read_text())
        (package / "nnx" / "package.json").write_text(json.dumps({**told, "version": number}) + "\n")
        if number == "3":
            model = package / "small" / "fp32" / "model.onnx"
            content = bytearray(model.read_bytes())
            content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)  # in the middle of the weights
            model.write_bytes(content)
        checksums.write(package)
        if number != "1":
            signature.sign(package, pair.private)
    return folder


def live(folder: Path) -> str:
    """The version that is live, which is whole."""
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder / "current", check=True)
    told = json.loads((folder / "current" / "nnx" / "package.json").read_text())
    return str(told["version"])


def test_a_package_goes_to_a_device_and_a_worse_one_does_not(place: Path, packages: Path, nnx: Nnx) -> None:
    target, at = f"ssh://device{place}/my%20device", place / "my device"
    trust = ("--trust", packages / "release.pub", "--python", sys.executable)
    one, two, worse = (packages / name / "small.ortpackage" for name in "123")
    code, out, err = nnx("push", one, target, *trust)
    assert (code, out) == (1, "")
    assert "model.sig is unsigned" in err
    assert not at.exists()
    code, out, err = nnx("push", one, target, "--python", sys.executable, "--json")
    assert code == 0, err
    (told,) = json.loads(out)["targets"]
    assert told["receipt"]["ok"] and told["sent_bytes"] == told["package_bytes"]
    assert live(at) == "1"
    code, out, err = nnx("push", two, target, *trust)
    assert code == 0, err
    assert "tested there: onnxruntime" in out
    assert live(at) == "2"
    assert nnx("verify", at / "current", "--trust", packages / "release.pub")[0] == 0
    code, out, err = nnx("push", worse, target, *trust)
    assert code == 1
    assert "it fails its self-test, which ended with code 1: golden fp32: 'y' of case 0 is off by" in out
    assert live(at) == "2"
    code, out, err = nnx("push", "--rollback", target, "--python", sys.executable)
    assert code == 0, err
    assert live(at) == "1"


def test_several_devices_have_a_line_each_and_one_that_fails_is_told(place: Path, packages: Path, nnx: Nnx) -> None:
    one = packages / "1" / "small.ortpackage"
    good = [f"ssh://device{place}/{number}" for number in range(3)]
    code, out, err = nnx("push", one, *good, "ssh://device:1/tmp/nowhere", "ssh://nobody@device/tmp/nowhere")
    assert code == 1
    *lines, last = out.splitlines()
    assert [line.startswith(f"{target}: live") for line, target in zip(lines, good, strict=False)] == [True] * 3
    assert "failed: ssh did not get through: " in lines[3] and "Connection refused" in lines[3]
    assert "failed: ssh did not get through: " in lines[4] and "Permission denied" in lines[4]
    assert last == "3 of 5 targets: live"
    assert "2 of 5 targets failed" in err


def test_interrupted_nothing_goes_live(place: Path, packages: Path) -> None:
    slow = place / "slow.ortpackage"
    shutil.copytree(packages / "1" / "small.ortpackage", slow)
    runner = slow / "runners" / "python" / "run.py"
    runner.write_text("import time; time.sleep(3)\n")
    checksums.write(slow)
    process = start_nnx("push", slow, f"ssh://device{place}/device", "--python", sys.executable, cwd=place)
    assert process.stderr is not None
    for line in process.stderr:
        if "tests itself there" in line:
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    time.sleep(4)
    assert not (place / "device" / "current").exists()
    assert not list((place / "device" / "releases").iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["p", "http://host/dir"], "'http://host/dir' is no place to push to"),
        (["p", "ssh://host"], "'ssh://host' is no place to push to"),
        (["p", "ssh://host/"], "'ssh://host/' is no place to push to"),
        (["p", "ssh://-oProxyCommand=x/dir"], "'ssh://-oProxyCommand=x/dir' is no place to push to"),
        (["p", "file:///a%0Ab"], "is no place to push to"),
        (["p", "file:///a", "file:///a"], "A target is named twice"),
        (["nothing", "file:///a"], "There is no package nothing"),
        (["p"], "Name a target"),
        (["p", "file:///a"], "is no package"),
        (["--rollback", "file:///a", "--dry-run"], "--dry-run would do nothing with --rollback"),
        (["p", "file:///a", "--check", "a\nb"], "--check takes one line"),
        (["p", "file:///a", "--trust", "no.pub"], "no key no.pub"),
        ([], "Missing argument"),
    ],
)
def test_bad_input_gets_a_sentence(
    arguments: list[str], said: str, tmp_path: Path, nnx: Nnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p").mkdir()
    code, out, err = nnx("push", *arguments)
    assert (code, out) == (2, "")
    assert said in err.replace("\n", " ")
    assert "Traceback" not in err

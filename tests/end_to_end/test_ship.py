"""The whole way over a real sshd: trained, packed, signed, pushed, verified and benched there, worse, rolled back."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.command import run_nnx
from tests.end_to_end.test_readme import ROOT, blocks
from toolchain.shipping import checksums, signature

PAGE = ROOT / "docs" / "how-to" / "raspberry-pi.md"


@pytest.fixture
def place(tmp_path: Path, sshd: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", os.pathsep.join([str(sshd), str(Path(sys.executable).parent), os.environ["PATH"]]))
    return tmp_path


def nnx(*arguments: object, cwd: Path, code: int = 0) -> str:
    """What it prints, and what it says."""
    ended = run_nnx(*arguments, cwd=cwd)
    assert ended.returncode == code, f"{arguments}\n{ended.stdout}{ended.stderr}"
    return ended.stdout + ended.stderr


def worse(package: Path, made: Path, key: Path) -> Path:
    """A package that is whole and signed, of a model that answers something else."""
    shutil.copytree(package, made)
    for model in made.rglob("model*.onnx"):
        content = bytearray(model.read_bytes())
        middle = len(content) // 2
        weights = np.frombuffer(content[middle : middle + 4096], np.uint8)
        content[middle : middle + 4096] = (weights[::-1]).tobytes()
        model.write_bytes(content)
    checksums.write(made)
    signature.sign(made, key)
    return made


@pytest.mark.slow
def test_from_training_to_a_device_and_back(digits: Path, place: Path) -> None:
    device, there = f"ssh://device{place}/device", place / "device" / "current"
    python = ("--python", sys.executable)
    nnx("keys", "new", "release", cwd=place)
    versions = {}
    for number in ("1", "2"):
        output = place / number / "digits.ortpackage"
        nnx("pack", digits, "--package-version", number, "--sign", "release.key", "-o", output, cwd=place)
        versions[number] = output
    for number, output in versions.items():
        said = nnx("push", output, device, "--trust", "release.pub", *python, cwd=place)
        assert "tested there: onnxruntime" in said
        assert json.loads((there / "nnx" / "package.json").read_text())["version"] == number
    ran = f"{sys.executable} {there}/runners/python/run.py --self-test --trust {place}/release.pub"
    receipt = json.loads(subprocess.run(["ssh", "device", ran], capture_output=True, check=True).stdout)
    assert receipt["ok"]
    assert any(check["name"] == "signature" and check["ok"] for check in receipt["checks"])
    nnx("verify", there, "--trust", "release.pub", cwd=place)
    short = ("--batch", 1, "--threads", 1, "--max-time", "2s")
    nnx("bench", versions["2"], "--host", "ssh://device", "--host", "local", *python, *short, "-o", "b.json", cwd=place)
    rows = json.loads((place / "b.json").read_text())["rows"]
    assert {row["setting"].get("host") for row in rows if row["status"] == "ok"} == {"ssh://device", None}
    bad = worse(versions["2"], place / "3" / "digits.ortpackage", place / "release.key")
    said = nnx("push", bad, device, "--trust", "release.pub", *python, cwd=place, code=1)
    assert "it fails its self-test" in said
    assert json.loads((there / "nnx" / "package.json").read_text())["version"] == "2"
    nnx("push", "--rollback", device, *python, cwd=place)
    assert json.loads((there / "nnx" / "package.json").read_text())["version"] == "1"
    nnx("verify", there, "--trust", "release.pub", cwd=place)


@pytest.mark.slow
def test_the_page_on_the_raspberry_pi_runs(place: Path) -> None:
    (place / "pi").mkdir()
    for block in blocks(PAGE, "python"):
        named = re.match(r"# (\w+\.py)\n", block)
        assert named
        (place / named[1]).write_text(block)
    for line in "".join(blocks(PAGE, "sh")).splitlines():
        # the Pi is this machine, its home a folder of the test's
        for what, instead in (
            ("'~/env/bin/python'", sys.executable), ("~/env/bin/python", sys.executable), ("/~/", f"{place}/pi/"),
            ("~/", f"{place}/pi/"), ("raspberrypi.local:", f"device:{place}/pi/"), ("raspberrypi.local", "device"),
            ("run.py one.npy", f"run.py {place}/pi/one.npy"),
        ):  # fmt: skip
            line = line.replace(what, instead)
        ended = subprocess.run(line, shell=True, cwd=place, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{line}\n{ended.stdout}{ended.stderr}"
    assert json.loads(ended.stdout)["outputs"]
    assert (place / "pi" / "net" / "current" / "model.sig").exists()

"""Another processor than this one: a Python for arm64 with numpy and onnxruntime, which .ci/arm64_python.sh makes."""

import os
import shutil
from pathlib import Path

import pytest


def folder() -> Path:
    """Where it lies."""
    found = os.environ.get("NNX_TEST_ARM64")
    if found is None:
        pytest.skip("NNX_TEST_ARM64 names no folder: .ci/arm64_python.sh FOLDER makes one")
    return Path(found).absolute()


def python() -> str:
    """The Python there, which starts as any other does."""
    return str(folder() / "python3")


def packages() -> Path:
    """Its site-packages."""
    (found,) = folder().glob("lib/python3.*/site-packages")
    return found


def command() -> list[str]:
    """What a program for arm64 is started by."""
    qemu = shutil.which("qemu-aarch64-static")
    if qemu is None:
        pytest.skip("no qemu-aarch64-static: apt-get install qemu-user-static")
    return [qemu, "-cpu", "cortex-a76", "-L", str(folder() / "root")]

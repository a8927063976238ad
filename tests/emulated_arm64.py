"""Another processor than this one: a Python for arm64 with numpy and onnxruntime, which .ci/arm64_python.sh makes."""

import os
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

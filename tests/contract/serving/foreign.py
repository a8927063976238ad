"""NVIDIA's client and its protobuf definitions, in an environment of their own: they want older libraries than nnx."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

PYTHON = os.environ.get("NNX_TEST_TRITONCLIENT")
"""A Python with tritonclient[http,grpc]; `make tritonclient` makes one."""
SCRIPT = Path(__file__).with_name("by_tritonclient.py")


def tritonclient(*arguments: object) -> Any:
    """What the script says."""
    if PYTHON is None:
        pytest.skip("NNX_TEST_TRITONCLIENT names no Python with tritonclient: `make tritonclient` makes one")
    ended = subprocess.run(
        [PYTHON, str(SCRIPT), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=150, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)

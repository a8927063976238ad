"""The runners beside Python's, as a device would have them: each with an ONNX Runtime of its own language."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NODE = shutil.which("node")
MODULES = os.environ.get("NNX_TEST_NODE_MODULES")
"""A node_modules folder with onnxruntime-node and onnxruntime-web."""


def node(package: Path) -> list[str]:
    """The command that runs a package in Node; its modules lie in a folder above it, as npm puts them."""
    if NODE is None or MODULES is None:
        pytest.skip("no node, or NNX_TEST_NODE_MODULES does not say where onnxruntime-node is")
    above = package.parent / "node_modules"
    if not above.exists():
        above.symlink_to(MODULES, target_is_directory=True)
    return [NODE, str(package / "runners" / "node" / "run.mjs")]


COMMANDS = {"node": node}


def run(name: str, package: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the package by the runner called so."""
    command = [*COMMANDS[name](package), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=120)

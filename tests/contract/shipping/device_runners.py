"""The runners beside Python's, as a device would have them: each with an ONNX Runtime of its own language."""

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import onnxruntime
import pytest

from tests import emulated_arm64

MODULES = os.environ.get("NNX_TEST_NODE_MODULES")
"""A node_modules folder with onnxruntime-node and onnxruntime-web."""
HEADERS = Path(os.environ.get("NNX_TEST_ORT_HEADERS", "/usr/include/onnxruntime"))
"""A folder with onnxruntime_c_api.h of any version: the wheels have none."""
COMPILER, CROSS_COMPILER = "g++", "aarch64-linux-gnu-g++"
SOURCE = Path(__file__).resolve().parents[3] / "toolchain" / "shipping" / "runners" / "cpp"


def node(package: Path) -> list[str]:
    """The command that runs a package in Node; its modules lie in a folder above it, as npm puts them."""
    found = shutil.which("node")
    if found is None or MODULES is None:
        pytest.skip("no node, or NNX_TEST_NODE_MODULES does not say where onnxruntime-node is")
    above = package.parent / "node_modules"
    if not above.exists():
        above.symlink_to(MODULES, target_is_directory=True)
    return [found, str(package / "runners" / "node" / "run.mjs")]


def cpp(package: Path) -> list[str]:
    """The command that runs a package in C++."""
    _require(COMPILER)
    return [str(_built(COMPILER, Path(onnxruntime.__file__).parent)), str(package)]


def cpp_on_arm64(package: Path) -> list[str]:
    """The same on another processor, built here for it."""
    command = emulated_arm64.command()
    _require(CROSS_COMPILER)
    built = _built(CROSS_COMPILER, emulated_arm64.packages() / "onnxruntime", "-DCMAKE_SYSTEM_NAME=Linux")
    return [*command, str(built), str(package)]


def _require(compiler: str) -> None:
    if not (HEADERS / "onnxruntime_c_api.h").is_file():
        pytest.skip("no header of ONNX Runtime: apt-get install libonnxruntime-dev, or NNX_TEST_ORT_HEADERS=folder")
    if not (shutil.which("cmake") and shutil.which(compiler) and Path("/usr/include/nlohmann/json.hpp").is_file()):
        pytest.skip(f"no cmake, {compiler} or nlohmann/json.hpp, all of which Debian has")


@functools.cache
def _built(compiler: str, wheel: Path, *more: str) -> Path:
    """The program, built once against the library in a wheel, where every warning is an error."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    (folder / "ort" / "lib").mkdir(parents=True)
    (folder / "ort" / "include").symlink_to(HEADERS, target_is_directory=True)
    (library,) = wheel.glob("capi/libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / "ort" / "lib" / name).symlink_to(library)
    given = {
        "ONNXRUNTIME_ROOT": folder / "ort",
        "CMAKE_BUILD_TYPE": "Debug",
        "CMAKE_CXX_COMPILER": compiler,
        "CMAKE_CXX_FLAGS": "-Wall -Wextra -Werror",
    }
    configure = [
        "cmake",
        "-S",
        str(SOURCE),
        "-B",
        str(folder / "build"),
        *(f"-D{name}={value}" for name, value in given.items()),
        *more,
    ]
    for command in (configure, ["cmake", "--build", str(folder / "build")]):
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder / "build" / "run"


COMMANDS = {"node": node, "cpp": cpp, "cpp on arm64": cpp_on_arm64}


def run(name: str, package: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the package by the runner called so."""
    command = [*COMMANDS[name](package), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=120)

"""The commands that run a package in each language, and ONNX Runtime alone in the same."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from toolchain.shipping import self_test

HERE = Path(__file__).resolve().parent
_HEADERS = Path(os.environ.get("NNX_TEST_ORT_HEADERS", "/usr/include/onnxruntime"))
_MODULES = os.environ.get("NNX_TEST_NODE_MODULES")


@dataclass(frozen=True)
class Language:
    """``runner`` is followed by what it is to do; ``bare`` by the model, the input's file and its shape."""

    name: str
    runner: list[str]
    bare: list[str]


def of(package: Path, place: Path) -> Iterator[Language]:
    """Those that this machine has the means for; C++ is built in ``place``, and Node finds its modules from there."""
    yield Language("Python", [sys.executable, str(package / self_test.RUNNER)], [sys.executable, str(HERE / "bare.py")])
    node = shutil.which("node")
    if node is None or _MODULES is None:
        print("no Node: NNX_TEST_NODE_MODULES names a folder with onnxruntime-node", file=sys.stderr)
    else:
        if not (place / "node_modules").exists():
            (place / "node_modules").symlink_to(_MODULES, target_is_directory=True)
            shutil.copy(HERE / "bare.mjs", place)
        yield Language("Node", [node, str(package / "runners/node/run.mjs")], [node, str(place / "bare.mjs")])
    if not (_HEADERS / "onnxruntime_c_api.h").is_file() or shutil.which("g++") is None:
        print("no C++: NNX_TEST_ORT_HEADERS names the folder of onnxruntime_c_api.h", file=sys.stderr)
        return
    programs = {"runner": package / "runners/cpp/main.cpp", "bare": HERE / "bare.cpp"}
    built = {name: _built(source, place / name) for name, source in programs.items()}
    yield Language("C++", [built["runner"], str(package)], [built["bare"]])


def _built(source: Path, made: Path) -> str:
    if not made.exists():
        (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
        (made.parent / "libonnxruntime.so.1").unlink(missing_ok=True)
        (made.parent / "libonnxruntime.so.1").symlink_to(library)
        words = ["g++", "-O2", "-std=c++17", "-I", _HEADERS, source, library, f"-Wl,-rpath,{made.parent}", "-o", made]
        subprocess.run([str(word) for word in words], check=True)
    return str(made)

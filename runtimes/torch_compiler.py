"""Whether torch.compile can work on this machine."""

import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path


def why_not(device: str) -> str | None:
    """The missing piece as a phrase, or None when torch.compile has what it needs for ``device``."""
    if device == "cuda":
        return None if importlib.util.find_spec("triton") else "the package triton is not installed"
    compiler = os.environ.get("CXX", "g++")
    if sys.platform == "darwin" and "CXX" not in os.environ:
        compiler = "clang++"
    if not shutil.which(compiler):
        return f"there is no C++ compiler ({compiler}) on the PATH"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        return "Python's header files (python3-dev) are not installed"
    return None

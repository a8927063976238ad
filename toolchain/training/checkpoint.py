"""Checkpoints: written atomically, read without running their content."""

import argparse
import collections
import datetime
import pathlib
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from exporters.atomic_file import staged
from exporters.errors import in_words
from toolchain.errors import BadUsage

BEST = "checkpoint.pt"
"""The weights with the best validation accuracy, under ``model``; beside them ``epoch`` and ``validation_accuracy``."""
RESUME = "resume.pt"
"""The state after the last whole epoch, from which training goes on."""
_BLOWN_UP = 4
"""torch stores its archives uncompressed: one that unpacks to more than so many times its size is a bomb."""
PLAIN = "Save a state_dict with torch.save."
_DATA: list[Any] = [
    argparse.Namespace, collections.defaultdict, datetime.datetime, datetime.timedelta, pathlib.PosixPath,
    pathlib.PurePosixPath, np.dtype, np.ndarray,
    *((made, f"{package}.multiarray.{name}") for package in ("numpy.core", "numpy._core")
      for made, name in ((np.float64(0).__reduce__()[0], "scalar"), (np.zeros(1).__reduce__()[0], "_reconstruct"))),
    *(type(np.dtype(kind)) for kind in (*np.typecodes["AllInteger"], *np.typecodes["Float"], "?", "U", "S")),
]  # fmt: skip
"""What people keep beside weights (arguments, the best score, a date): values that run nothing when they are read."""


def save(content: dict[str, Any], path: Path) -> None:
    """Replace ``path`` by ``content``."""
    # through a handle: given a path, torch writes the file's temporary name into the archive
    with staged(path) as temporary, temporary.open("wb") as handle:
        torch.save(content, handle)


def load(path: Path) -> dict[str, Any]:
    """Read tensors, numbers and strings, nothing that could run; raise BadUsage when ``path`` is missing or unfit."""
    if not path.is_file():
        what = f"{path} is not a file." if path.exists() else f"There is no checkpoint {path}."
        raise BadUsage(what, "Name a checkpoint, or make one with `nnx train`.")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    _require_no_bomb(path)
    try:
        with torch.serialization.safe_globals(_DATA):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error
    if not isinstance(content, dict):
        raise BadUsage(f"{path} holds a {type(content).__name__}, not weights.", PLAIN)
    return content


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        return dict(load_file(path))
    except OSError:
        raise
    except Exception as error:  # its reader's own kinds, of which not all are exported
        raise BadUsage(f"{path} is not a safetensors file, or it is truncated: {in_words(error)}.", PLAIN) from error


def _require_no_bomb(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise _unreadable(path, error) from error
    if unpacked > _BLOWN_UP * path.stat().st_size + 2**20:
        raise BadUsage(f"{path} unpacks to {unpacked / 1e9:,.1f} GB, unlike what torch.save writes.", PLAIN)


def _unreadable(path: Path, error: Exception) -> BadUsage:
    text = str(error)
    if refused := re.search(r"(?:GLOBAL|Unsupported (?:class|global):?) ([\w.]+\.\w+)", text):
        return BadUsage(
            f"{path} holds a {refused[1]}, and reading one could run code.",
            "Where you trust the file, make one of its weights alone, in Python:\n"
            f"  content = torch.load({str(path)!r}, weights_only=False)\n"
            f"  torch.save(content.state_dict(), {str(path.with_suffix('.weights.pt'))!r})"
            "  # or content['model'], where it is a dict",
        )
    if "TorchScript" in text or "constants.pkl" in text:
        return BadUsage(f"{path} is a TorchScript archive, not weights.", PLAIN)
    return BadUsage(f"{path} is not a checkpoint of plain weights, or it is truncated.", PLAIN)

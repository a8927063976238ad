"""What calibration saw, kept on disk under a digest of everything that it depends on."""

import contextlib
import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from exporters import provenance
from exporters.atomic_file import staged
from exporters.calibration.histogram import BINS, MAX_PER_SAMPLE, Histogram
from exporters.large_weights import chunks_of, is_stub

_VERSION = 2  # of the way in which statistics are taken; a change makes every older file a miss
_MAX_FILES = 200  # of at most about a megabyte each


def key(model: onnx.ModelProto, *, data_sha256: str, tensors: Sequence[str]) -> str:
    """The digest of the graph with its weights, the data, the tensors looked at, and the versions of the tools."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    del plain.metadata_props[:]
    stubs = [tensor for tensor in plain.graph.initializer if is_stub(tensor)]
    facts = [_VERSION, BINS, MAX_PER_SAMPLE, data_sha256, list(tensors), provenance.tool_versions()]
    state = hashlib.sha256(json.dumps(facts).encode())
    for tensor in stubs:  # by what they hold, not by where that lies
        for chunk in chunks_of(tensor):
            state.update(chunk)
        del tensor.external_data[:]
    state.update(plain.SerializeToString(deterministic=True))
    return state.hexdigest()


def load(folder: Path, name: str) -> dict[str, Histogram] | None:
    """The statistics kept under ``name``, None where there are none or the file is damaged."""
    path = folder / f"{name}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            names = [str(tensor) for tensor in content["names"]]
            kept = {
                tensor: Histogram(
                    int(exponent), counts.astype(np.int64), float(lowest), float(highest), bool(boundless)
                )
                for tensor, exponent, counts, lowest, highest, boundless in zip(
                    names,
                    content["exponents"],
                    content["counts"],
                    content["lowest"],
                    content["highest"],
                    content["boundless"],
                    strict=True,
                )
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    with contextlib.suppress(OSError):  # a cache that may only be read
        path.touch()
    return kept


def save(folder: Path, name: str, seen: Mapping[str, Histogram]) -> None:
    """Keep ``seen``; files that were not used for longest make room."""
    folder.mkdir(parents=True, exist_ok=True)
    with staged(folder / f"{name}.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            names=np.array(list(seen)),
            exponents=np.array([each.exponent for each in seen.values()]),
            counts=np.array([each.counts for each in seen.values()]),
            lowest=np.array([each.lowest for each in seen.values()]),
            highest=np.array([each.highest for each in seen.values()]),
            boundless=np.array([each.boundless for each in seen.values()]),
        )
    with contextlib.suppress(OSError):  # another process may tidy up at the same time
        for old in sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime)[:-_MAX_FILES]:
            old.unlink(missing_ok=True)

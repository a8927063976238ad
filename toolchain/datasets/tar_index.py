"""Where each member of a tar shard lies: found once by its headers, kept in the cache folder, read from then on.

With it a shard is read at any place, so that an epoch has one order for any number of processes, a training goes on
where it stopped, and ``--samples`` of a calibration costs that many reads. A stream through a shuffle buffer, which
is what the package webdataset makes of the same files, has none of the three; it suits stores that are far away.
"""

import hashlib
import io
import json
import os
import re
import tarfile
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from exporters.atomic_file import staged
from toolchain import regular_file
from toolchain.datasets import npz_file
from toolchain.errors import BadUsage
from toolchain.legible import legible

_FORM = 1
"""Of what is kept; another one is made anew."""
NO_NUMBER = -(2**63)
_NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)", re.DOTALL)
"""``KEY.EXTENSION``, cut at the first dot of the file's name, as webdataset has it."""
_CLASS, _MOST_DIGITS = ".cls", 20
_BLOCK = 512
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BROKEN = (tarfile.TarError, EOFError, ValueError, OverflowError, LookupError, regular_file.HeaderTooLarge)
_MOST_SHOWN = 60


@dataclass(frozen=True)
class Index:
    """The members of a shard, one a row; ``sample`` counts neighbours of one key, ``kind`` is a place in ``kinds``.

    ``number`` is what a ``.cls`` says, else NO_NUMBER. ``faults`` say what of the shard cannot be had.
    """

    sample: npt.NDArray[np.int32]
    kind: npt.NDArray[np.int32]
    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    number: npt.NDArray[np.int64]
    keys: npt.NDArray[np.uint8]
    key_ends: npt.NDArray[np.int64]
    kinds: tuple[str, ...]
    faults: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.key_ends)

    def key(self, sample: int) -> str:
        """What a sample is called, to be shown."""
        start = int(self.key_ends[sample - 1]) if sample else 0
        return legible(bytes(self.keys[start : int(self.key_ends[sample])]).decode(errors="replace"), most=_MOST_SHOWN)


def of(shard: Path) -> Index:
    """The index of a shard, kept from an earlier time where the file has its size and time of change still.

    BadUsage for what is compressed, in which nothing can be read before all that stands in front of it.
    """
    place = cache_folder() / f"{_mark(shard)}.npz"
    with suppress(Exception):  # whatever stands there may be half, old or strange: then it is made anew
        return _kept(place)
    found = _read(shard)
    with suppress(OSError, RuntimeError):  # a home folder that cannot be written to, or none
        _keep(found, place)
    return found


def cache_folder() -> Path:
    """Where they are kept: below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "nnx" / "shards"


def _mark(shard: Path) -> str:
    there = shard.stat()
    told = f"{_FORM}\0{shard.resolve()}\0{there.st_size}\0{there.st_mtime_ns}"
    return hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest()


def _kept(place: Path) -> Index:
    content = npz_file.load(place)
    told = json.loads(bytes(content.pop("told")))
    return Index(**content, kinds=tuple(told["kinds"]), faults=tuple(told["faults"]))  # type: ignore[arg-type]


def _keep(index: Index, place: Path) -> None:
    arrays: dict[str, Any] = {name: value for name, value in vars(index).items() if isinstance(value, np.ndarray)}
    told = json.dumps({"kinds": index.kinds, "faults": index.faults}).encode()
    with staged(place) as temporary, temporary.open("wb") as file:
        np.savez(file, told=np.frombuffer(told, np.uint8), **arrays)


def _read(shard: Path) -> Index:
    kinds, faults = dict[str, int](), list[str]()
    rows, keys, key_ends = array("q"), bytearray(), array("q")  # a shard may hold millions
    with regular_file.opened(shard) as handle:
        if handle.peek(4).startswith((_GZIP, _ZSTD)):
            raise BadUsage(
                f"{shard} is compressed.", "Unpack it to a plain .tar: pictures in it are compressed anyway."
            )
        last = None
        try:
            for entry, number in _members(handle, shard, faults):
                if (named := _NAME.fullmatch(entry.name)) is None:
                    continue
                key, kind = named[1], named[2].lower()
                if key != last:
                    keys += key.encode(errors="surrogateescape")
                    key_ends.append(len(keys))
                    last = key
                kind_number = kinds.setdefault(kind, len(kinds))
                rows.extend((len(key_ends) - 1, kind_number, entry.offset_data, entry.size, number))
        except _Cut as cut:
            faults.append(f"{shard} {cut}")
            del key_ends[-1:]  # of the last sample something may be missing
    table = np.array(rows, np.int64).reshape(-1, 5)
    table = table[table[:, 0] < len(key_ends)]
    return Index(
        sample=table[:, 0].astype(np.int32),
        kind=table[:, 1].astype(np.int32),
        offset=table[:, 2].copy(),
        size=table[:, 3].copy(),
        number=table[:, 4].copy(),
        keys=np.frombuffer(bytes(keys), np.uint8),
        key_ends=np.array(key_ends, np.int64),
        kinds=tuple(kinds),
        faults=tuple(faults),
    )


class _Cut(Exception):
    """From here on nothing can be had of a shard; the message completes "SHARD ..."."""


def _members(handle: IO[bytes], shard: Path, faults: list[str]) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """The files in it that are whole, and the class number in a ``.cls``; a link or a device is a fault.

    Raises _Cut where the shard ends too soon.
    """
    length = os.fstat(handle.fileno()).st_size
    file = regular_file.Sipped(handle.fileno())
    file.seek(0)
    read = 0
    try:
        archive = tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
        while (entry := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # else it keeps all that it has seen
            read = archive.offset
            if entry.size < 0 or entry.offset_data + entry.size > length:
                raise _Cut(f"is cut off in '{legible(entry.name, most=_MOST_SHOWN)}', after {length:,} bytes")
            if entry.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and entry.sparse is None:
                yield entry, _number(file, entry) if entry.name.lower().endswith(_CLASS) else NO_NUMBER
            elif not entry.isdir():
                faults.append(f"{shard} holds '{legible(entry.name, most=_MOST_SHOWN)}', which is no plain file")
        read = archive.offset
        file.seek(read)
        end = file.read(_BLOCK)
    except _BROKEN as error:
        raise _Cut(f"is cut off or damaged after {read:,} bytes" if read else "is no tar file") from error
    if end != bytes(_BLOCK):
        raise _Cut(f"is cut off or damaged after {read:,} bytes: there is no end mark")


def _number(file: io.FileIO, entry: tarfile.TarInfo) -> int:
    file.seek(entry.offset_data)
    try:
        number = int(file.read(min(entry.size, _MOST_DIGITS)))
    except ValueError:
        return NO_NUMBER
    return number if 0 <= number < 2**63 else NO_NUMBER

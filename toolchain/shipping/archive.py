"""A package in a .tar or .zip: looked through as a whole before the first byte of it is written."""

import os
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from toolchain import regular_file
from toolchain.regular_file import HeaderTooLarge, Sipped
from toolchain.shipping import names
from toolchain.shipping.bad_package import BadPackage

_UNPACKED_BYTES, _UNPACKED_TIMES = 2**30, 20  # an archive may hold the larger of both: weights shrink by half at best
_HEADER_BYTES = 4 * 2**20  # what is read in one piece: the directory of a .zip of 10,000 files has 1 to 2 MB
_CHUNK_BYTES = 2**20
_BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OverflowError,
    LookupError,
)  # fmt: skip
"""What Python's readers raise for an archive that is none, each from several places of theirs."""
_OF_TAR = {
    tarfile.SYMTYPE: "a link", tarfile.LNKTYPE: "a link", tarfile.FIFOTYPE: "a pipe", tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
}  # fmt: skip


@dataclass(frozen=True)
class _Member:
    """An entry of an archive; ``name`` is empty for the folder that all of it lies in."""

    name: str
    is_folder: bool
    size_bytes: int
    open: Callable[[], IO[bytes] | None]


@contextmanager
def opened(package: Path) -> Iterator[Path]:
    """The folder of a package: itself, or what is unpacked of an archive while the block lasts.

    Raises BadPackage, before anything is written, for an archive with names that :mod:`.names` refuses, links, devices,
    pipes, sparse or encrypted files, or too much in it.
    """
    if package.is_dir():
        yield package
        return
    with tempfile.TemporaryDirectory(prefix="nnx-package-") as place:
        unpack(package, Path(place))
        yield _top(Path(place))


def unpack(archive: Path, folder: Path) -> None:
    """Write what ``archive`` holds below ``folder``, which is empty; permissions and times are not kept."""
    try:
        with regular_file.opened(archive) as handle, _reader(Sipped(handle.fileno(), most=_HEADER_BYTES)) as reader:
            members = _of_zip(reader) if isinstance(reader, zipfile.ZipFile) else _of_tar(reader)
            for member in _looked_through(members, os.fstat(handle.fileno()).st_size):
                _write(member, folder)
    except _Refused as error:
        raise BadPackage(archive, str(error)) from error
    except HeaderTooLarge as error:
        raise BadPackage(archive, "has a header that is too large") from error
    except _BROKEN as error:
        raise BadPackage(archive, "is no folder, and no .tar or .zip that can be read to its end") from error


class _Refused(Exception):
    """What is said completes "PACKAGE ..."; no ValueError, which the readers of archives take for one of theirs."""


def _reader(file: Sipped) -> tarfile.TarFile | zipfile.ZipFile:
    start = file.read(2)
    file.seek(0)
    if start == b"PK":
        return zipfile.ZipFile(file)
    return tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape")


def _of_tar(archive: tarfile.TarFile) -> Iterator[_Member]:
    for entry in archive:
        name = entry.name.removeprefix("./")
        if not (entry.isdir() or entry.type in (tarfile.REGTYPE, tarfile.AREGTYPE)) or entry.sparse is not None:
            kind = _OF_TAR.get(entry.type, "of a kind that is not unpacked")
            raise _Refused(f"holds '{names.shown(name)}', which is {kind}")
        yield _Member("" if name == "." else name, entry.isdir(), entry.size, partial(archive.extractfile, entry))


def _of_zip(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for entry in archive.infolist():
        name, kind = entry.filename, stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            what = "a link" if kind == stat.S_IFLNK else "no file and no folder"
            raise _Refused(f"holds '{names.shown(name)}', which is {what}")
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _Refused(f"holds '{names.shown(name)}', which is encrypted or compressed in another way than deflate")
        yield _Member(name.removesuffix("/"), entry.is_dir(), entry.file_size, partial(archive.open, entry))


def _looked_through(members: Iterator[_Member], archive_bytes: int) -> list[_Member]:
    """All of them, where all may be unpacked. Raises _Refused."""
    most = max(_UNPACKED_BYTES, _UNPACKED_TIMES * archive_bytes)
    found, taken, total = list[_Member](), names.Names(), 0
    for count, member in enumerate(members):
        total += member.size_bytes
        if member.size_bytes < 0 or total > most:
            raise _Refused(f"unpacks to more than {most / 1e9:.1f} GB")
        if count >= names.MOST:
            raise _Refused(f"holds more than {names.MOST:,} files and folders")
        if member.name == "" and member.is_folder:
            continue
        try:
            taken.add(member.name, folder=member.is_folder)
        except ValueError as error:
            raise _Refused(str(error)) from error
        found.append(member)
    return found


def _write(member: _Member, folder: Path) -> None:
    place = folder / member.name
    if member.is_folder:
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    content = member.open()
    if content is None:
        raise tarfile.ReadError("no content")
    with content, place.open("xb") as made:
        left = member.size_bytes
        while left and (chunk := content.read(min(left, _CHUNK_BYTES))):
            made.write(chunk)
            left -= len(chunk)
        if left or content.read(1):  # a .zip is checked against its checksum at the end
            raise tarfile.ReadError("another size than it says")


def _top(place: Path) -> Path:
    """Where the package lies: in ``place``, or in the one folder there."""
    (*inside,) = place.iterdir()
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else place

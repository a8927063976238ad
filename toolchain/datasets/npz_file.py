"""The arrays of an ``.npz``, which is a zip archive: nothing in it is believed before it is compared with its size."""

import zipfile
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from toolchain import memory_budget
from toolchain.errors import BadUsage

_LOCAL_HEADER_BYTES = 30  # of a zip member, before its name and extra field
_ENCRYPTED = 1


def load(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """By name; mapped where they are not compressed, so that they stay on disk until they are read.

    ValueError, and what zipfile and numpy raise, for anything but plain arrays; BadUsage for more than the budget.
    """
    found: dict[str, npt.NDArray[np.generic]] = {}
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        _refuse_bombs(path, members)
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name == member.filename or name in found or member.flag_bits & _ENCRYPTED:
                raise ValueError(f"{member.filename} is no array, is there twice, or is encrypted")
            if member.compress_type == zipfile.ZIP_STORED:
                found[name] = _mapped(file, member, path)
            else:
                with archive.open(member) as stream:
                    found[name] = _unpacked(stream, member.file_size)
    return found


def _refuse_bombs(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """What is unpacked lies in memory; zipfile itself stops at the size that a member claims."""
    unpacked = sum(member.file_size for member in members if member.compress_type != zipfile.ZIP_STORED)
    most = memory_budget.BYTES.get()
    if unpacked > most:
        raise BadUsage(
            f"{path} holds {unpacked / 1e9:,.1f} GB, compressed; at most {most / 1e9:g} GB are unpacked into memory.",
            "Save it with numpy.savez, which does not compress: such arrays stay on disk, however large.",
        )


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject or dtype.names is not None:
        raise ValueError("pickled objects, or records")
    if any(axis < 0 for axis in shape):
        raise ValueError("a negative length")
    return shape, fortran, dtype


def _bytes_of(shape: tuple[int, ...], dtype: "np.dtype[np.generic]") -> int:
    count = 1
    for axis in shape:
        count *= axis  # of Python's integers, which do not overflow
    return count * dtype.itemsize


def _unpacked(stream: IO[bytes], size: int) -> npt.NDArray[np.generic]:
    """The array of a compressed member of ``size`` bytes."""
    shape, fortran, dtype = _header(stream)
    if _bytes_of(shape, dtype) != size - stream.tell():
        raise ValueError("a shape that does not fit its size")
    array: npt.NDArray[np.generic] = np.frombuffer(bytearray(stream.read()), dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def _mapped(file: IO[bytes], member: zipfile.ZipInfo, path: Path) -> npt.NDArray[np.generic]:
    """The array of an uncompressed member, mapped where it lies."""
    file.seek(member.header_offset)
    header = file.read(_LOCAL_HEADER_BYTES)
    name_bytes, extra_bytes = (int.from_bytes(header[start : start + 2], "little") for start in (26, 28))
    start = member.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes
    file.seek(start)
    shape, fortran, dtype = _header(file)
    if _bytes_of(shape, dtype) != member.file_size - (file.tell() - start):
        raise ValueError("a shape that does not fit its size")
    if not _bytes_of(shape, dtype):
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "c", file.tell(), shape, "F" if fortran else "C")

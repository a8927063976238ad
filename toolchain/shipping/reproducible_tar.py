"""A .tar in which nothing depends on who packs and when: names in order, one owner, one time."""

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from toolchain import regular_file
from toolchain.errors import CheckFailed
from toolchain.shipping.folder import File

_CHUNK_BYTES = 2**20


def write(path: Path, files: Sequence[File]) -> None:
    with path.open("xb") as made:
        for piece in pieces(files):
            made.write(piece)


def pieces(files: Sequence[File], root: str = ".") -> Iterator[bytes]:
    """What it holds: ``files`` and their folders, below ``root``."""
    places = [PurePosixPath(root, file.name) for file in files]
    for folder in sorted({str(parent) for place in places for parent in place.parents} - {"."}):
        yield _header(f"{folder}/", tarfile.DIRTYPE, 0o755, 0)
    for file, place in zip(files, places, strict=True):
        yield _header(str(place), tarfile.REGTYPE, 0o644, file.size_bytes)
        yield from content(file)
        yield bytes(-file.size_bytes % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def content(file: File, start: int = 0) -> Iterator[bytes]:
    """What a file holds from ``start`` on; CheckFailed for one that is shorter than it was."""
    left = file.size_bytes - start
    with regular_file.opened(file.path, through_links=False) as opened:
        opened.seek(start)
        while left and (piece := opened.read(min(_CHUNK_BYTES, left))):
            yield piece
            left -= len(piece)
    if left:
        raise CheckFailed(f"{file.path} became shorter while it was read.", "Do it again when it is done.")


def _header(name: str, kind: bytes, mode: int, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size = kind, mode, size
    return entry.tobuf(tarfile.PAX_FORMAT)

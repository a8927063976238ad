"""A package in blocks: what a device lacks of it, and how it puts the files together from what it has."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from toolchain.errors import CheckFailed

BLOCK_BYTES = 2**20
"""As in receive.sh: a changed layer costs little more than itself."""


@dataclass(frozen=True)
class Piece:
    """What is sent in one go: a file or a stretch of one; a device has its first ``there`` bytes."""

    sha256: str
    path: Path
    offset: int
    size_bytes: int
    there: int = 0

    @property
    def left_bytes(self) -> int:
        return self.size_bytes - self.there

    def chunks(self, first: int, last: int) -> Iterator[bytes]:
        """Its bytes from ``first`` to before ``last``; CheckFailed where the file has become shorter."""
        with self.path.open("rb") as file:
            file.seek(self.offset + first)
            while first < last:
                chunk = file.read(min(BLOCK_BYTES, last - first))
                if not chunk:
                    raise CheckFailed(f"{self.path} was changed while it was sent.", "Push it when it is done.")
                first += len(chunk)
                yield chunk


@dataclass(frozen=True)
class Whole:
    """A file of a package, with its hex SHA-256."""

    name: str
    sha256: str
    path: Path
    size_bytes: int


Split = Mapping[str, Sequence[str]]
"""Hex SHA-256 of a file of several blocks -> those of its blocks, in order."""


@dataclass(frozen=True)
class There:
    """What a device says that it has.

    ``files`` leads from a path to the hex SHA-256 that its list tells, ``split`` from such a one to its blocks', and
    ``parts`` from the name of what has arrived to its size and hex SHA-256. ``live`` is a folder or "".
    """

    live: str
    files: Mapping[str, str]
    split: Split
    parts: Mapping[str, tuple[int, str]]


@dataclass(frozen=True)
class Delivery:
    """``recipe`` is what receive.sh makes the package by, once the ``missing`` pieces have arrived."""

    recipe: bytes
    missing: tuple[Piece, ...]

    @property
    def size_bytes(self) -> int:
        return sum(piece.left_bytes for piece in self.missing)


def split(package: Iterable[Whole]) -> Split:
    """Of its large files, which are read for it."""
    return {file.sha256: tuple(_blocks(file)) for file in package if file.size_bytes > BLOCK_BYTES}


def _blocks(file: Whole) -> Iterator[str]:
    with file.path.open("rb") as content:
        while block := content.read(BLOCK_BYTES):
            yield hashlib.sha256(block).hexdigest()


def split_lines(split: Split) -> bytes:
    """What a device keeps of it for the next push."""
    return "".join(f"{' '.join((sha256, *blocks))}\n" for sha256, blocks in split.items()).encode()


def listed(said: Iterable[str]) -> There:
    """Of the lines that receive.sh's ``look`` says."""
    live, files, split, parts = "", dict[str, str](), dict[str, Sequence[str]](), dict[str, tuple[int, str]]()
    for line in said:
        kind, _, rest = line.partition(" ")
        if kind == "current":
            live = rest
        elif kind == "file":
            digest, _, path = rest.partition("  ")
            if ":" not in path:  # which parts a recipe's words
                files[path] = digest
        elif kind == "split":
            digest, *blocks = rest.split(" ")
            split[digest] = blocks
        elif kind == "part":
            name, size, digest = rest.rsplit(" ", 2)
            parts[name] = int(size), digest
    return There(live, files, split, parts)


def delivery(
    package: Sequence[Whole], there: There, *, split_of: Callable[[], Split], wrong: Collection[str] = ()
) -> Delivery:
    """How ``package`` comes to a device; files whose names are ``wrong`` are sent, whatever it says that it has.

    ``split_of`` is asked for the package's own blocks where a device knows those of a file before.
    """
    lines, missing = list[str](), dict[str, Piece]()
    places = {digest: path for path, digest in there.files.items()}

    def take(piece: Piece) -> str:
        if piece.sha256 not in missing:
            missing[piece.sha256] = replace(piece, there=_arrived(piece, there.parts))
        return piece.sha256

    for file in package:
        before = f"{there.live}/{file.name}"
        old = there.split.get(there.files.get(before, ""))
        new = split_of().get(file.sha256) if old and file.name not in wrong else None
        stretches = _changed(file, new, old) if new and old else []
        if file.size_bytes == 0:
            lines.append(f"file::{file.name}")
        elif file.name not in wrong and file.sha256 in places:
            lines.append(f"link:{places[file.sha256]}:{file.name}")
        elif stretches and sum(piece.size_bytes for _, piece in stretches) < file.size_bytes:
            lines.append(f"copy:{before}:{file.name}")
            lines += [f"put:{block}:{take(piece)}" for block, piece in stretches]
            lines.append(f"size:{file.size_bytes}:")
        else:
            piece = take(Piece(file.sha256, file.path, 0, file.size_bytes))
            lines.append(f"link:.nnx/parts/{piece}:{file.name}")
    due = tuple(piece for piece in missing.values() if piece.left_bytes)
    return Delivery("".join(f"{line}\n" for line in lines).encode(), due)


def others(package: Iterable[Whole], said: Collection[str]) -> frozenset[str]:
    """Which files of ``package`` are not right, of what receive.sh's ``make`` says."""
    if "made" in said:
        return frozenset()
    right = {line.removeprefix("file ") for line in said}
    return frozenset(file.name for file in package if f"{file.sha256}  {file.name}" not in right)


def _changed(file: Whole, new: Sequence[str], old: Sequence[str]) -> list[tuple[int, Piece]]:
    """The stretches of blocks that are others than in ``old``, each with the number of its first."""
    stretches = list[tuple[int, Piece]]()
    differs = [number >= len(old) or block != old[number] for number, block in enumerate(new)]
    for is_other, run in groupby(range(len(differs)), key=differs.__getitem__):
        if is_other:
            first, *_ = numbers = list(run)
            begin, end = first * BLOCK_BYTES, min((numbers[-1] + 1) * BLOCK_BYTES, file.size_bytes)
            piece = Piece("", file.path, begin, end - begin)
            stretches.append((first, replace(piece, sha256=_sha256(piece, end - begin))))
    return stretches


def _arrived(piece: Piece, parts: Mapping[str, tuple[int, str]]) -> int:
    """How many bytes of it are there: all that has arrived, or nothing where that is no beginning of it."""
    size, digest = parts.get(piece.sha256, (0, ""))
    return size if 0 < size <= piece.size_bytes and _sha256(piece, size) == digest else 0


def _sha256(piece: Piece, size: int) -> str:
    digest = hashlib.sha256()
    for chunk in piece.chunks(0, size):
        digest.update(chunk)
    return digest.hexdigest()


def sent(pieces: Iterable[Piece]) -> Iterator[bytes]:
    """What receive.sh's ``take`` reads."""
    for piece in pieces:
        yield f"{piece.sha256} {piece.there} {piece.left_bytes}\n".encode()
        yield from piece.chunks(piece.there, piece.size_bytes)

"""A package in blocks: what a device lacks of it, and how it puts the files together from what it has."""

import hashlib
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolchain.shipping.folder import File

BLOCK_BYTES = 2**20
"""As in receive.sh: hashed by a device in a few milliseconds, and a changed layer costs little more than itself."""
_TAR_BYTES = 512
_RECORD_BYTES = 20 * _TAR_BYTES


@dataclass(frozen=True)
class Block:
    """A stretch of a file: its hex SHA-256, and where it is read."""

    sha256: str
    path: Path
    offset: int
    size_bytes: int

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size_bytes)


@dataclass(frozen=True)
class Blocks:
    """A file of a package as its blocks, in order."""

    name: str
    sha256: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class There:
    """What a device has: hex SHA-256 -> path of whole files and of blocks that have arrived; the live folder, or ""."""

    live: str
    files: Mapping[str, str]
    arrived: frozenset[str]


@dataclass(frozen=True)
class Delivery:
    """``recipe`` is what receive.sh makes the package by, once ``missing`` blocks have arrived."""

    recipe: bytes
    missing: tuple[Block, ...]

    @property
    def size_bytes(self) -> int:
        return sum(block.size_bytes for block in self.missing)


def split(files: Iterable[File]) -> tuple[Blocks, ...]:
    """Read all of them once."""
    return tuple(_split(file) for file in files)


def _split(file: File) -> Blocks:
    whole, blocks = hashlib.sha256(), list[Block]()
    with file.path.open("rb") as content:
        while piece := content.read(BLOCK_BYTES):
            whole.update(piece)
            offset = len(blocks) * BLOCK_BYTES
            blocks.append(Block(hashlib.sha256(piece).hexdigest(), file.path, offset, len(piece)))
    return Blocks(file.name, whole.hexdigest(), tuple(blocks))


def listed(said: Iterable[str]) -> There:
    """Of the lines that receive.sh's ``look`` says."""
    live, files, arrived = "", dict[str, str](), set[str]()
    for line in said:
        kind, _, rest = line.partition(" ")
        if kind == "current":
            live = rest
        elif kind == "file":
            digest, _, path = rest.partition("  ")
            if path.startswith("releases/") and ":" not in path:
                files.setdefault(digest, path)
            elif path == f".nnx/blocks/{digest}":  # one that broke off in its middle has another digest
                arrived.add(digest)
    return There(live, files, frozenset(arrived))


def delivery(package: Sequence[Blocks], there: There, blocks_of: Callable[[str], Sequence[str]]) -> Delivery:
    """How ``package`` comes to a device; ``blocks_of`` asks it for the hex SHA-256 of a file's blocks."""
    lines, missing, paths = list[str](), dict[str, Block](), set(there.files.values())
    for file in package:
        if file.sha256 in there.files:
            lines.append(f"link:{there.files[file.sha256]}:{file.name}")
            continue
        lines.append(f"file::{file.name}")
        before = f"{there.live}/{file.name}"
        has_before = len(file.blocks) > 1 and before in paths
        old = {digest: number for number, digest in enumerate(blocks_of(before))} if has_before else {}
        for block in file.blocks:
            if block.sha256 in old:
                lines.append(f"copy:{old[block.sha256]}:{before}")
            else:
                lines.append(f"take:{block.sha256}:")
                if block.sha256 not in there.arrived:
                    missing.setdefault(block.sha256, block)
    return Delivery("".join(f"{line}\n" for line in lines).encode(), tuple(missing.values()))


def archive_bytes(blocks: Sequence[Block]) -> int:
    """The size of :func:`archive`, known before it is made."""
    size = sum(_TAR_BYTES + block.size_bytes + -block.size_bytes % _TAR_BYTES for block in blocks) + 2 * _TAR_BYTES
    return size + -size % _RECORD_BYTES


def archive(blocks: Sequence[Block]) -> Iterator[bytes]:
    """A tar of them, each named by its SHA-256."""
    for block in blocks:
        entry = tarfile.TarInfo(block.sha256)
        entry.size = block.size_bytes
        content = block.read()
        if len(content) != block.size_bytes:
            raise ValueError(f"{block.path} has become shorter")
        yield entry.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-block.size_bytes % _TAR_BYTES)
    size = sum(_TAR_BYTES + block.size_bytes + -block.size_bytes % _TAR_BYTES for block in blocks)
    yield bytes(archive_bytes(blocks) - size)

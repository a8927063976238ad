"""``SHA256SUMS``: every file of a package, for those who have coreutils alone: ``sha256sum -c SHA256SUMS``."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from toolchain.shipping import names
from toolchain.shipping.faults import Fault, Kind, differences
from toolchain.shipping.folder import File, files_in, read, sha256_of
from toolchain.shipping.package import CHECKSUMS, SIGNATURE

_MOST_BYTES = 4 * 2**20
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def write(folder: Path) -> None:
    """List all that lies in the package, but the list itself and a signature of it."""
    listed = {file.name: sha256_of(file) for file in files_in(folder) if file.name not in (CHECKSUMS, SIGNATURE)}
    (folder / CHECKSUMS).write_text(text(listed), encoding="utf-8")


def text(digests: Mapping[str, str]) -> str:
    """The file for these names and hex SHA-256s, sorted."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def parsed(content: bytes) -> dict[str, str]:
    """Name -> hex SHA-256; ValueError, to complete "SHA256SUMS ...", for what ``sha256sum`` would not read so."""
    try:
        *lines, last = content.decode().split("\n")
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8") from error
    if last:
        raise ValueError("ends within a line")
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        read = _LINE.fullmatch(line)
        if read is None:
            raise ValueError(f"has no checksum and name in line {number}")
        if (why := names.why_not(read[2])) is not None:
            raise ValueError(f"has a name in line {number} that {why}")
        if read[2] in found:
            raise ValueError(f"has '{names.shown(read[2])}' twice")
        found[read[2]] = read[1]
    return found


def faults(files: Collection[File], digests: Mapping[str, str]) -> list[Fault]:
    """How ``files``, with their hex SHA-256s, differ from what is listed among them."""
    own = next((file for file in files if file.name == CHECKSUMS), None)
    if own is None:
        return [Fault(kind=Kind.MISSING, file=CHECKSUMS, why="nothing says what the files should be")]
    try:
        listed = parsed(read(own, most_bytes=_MOST_BYTES))
    except ValueError as error:
        return [Fault(kind=Kind.UNFIT, file=CHECKSUMS, why=f"it {error}")]
    found = {name: digest for name, digest in digests.items() if name not in (CHECKSUMS, SIGNATURE)}
    return list(differences(listed, found, by=CHECKSUMS))

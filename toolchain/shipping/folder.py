"""The files of a package's folder, found and read without following anything that leads elsewhere."""

import hashlib
import itertools
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from toolchain import regular_file
from toolchain.shipping import names
from toolchain.shipping.bad_package import BadPackage


@dataclass(frozen=True)
class File:
    """One file; ``name`` is its place below the package's folder, with slashes."""

    name: str
    path: Path
    size_bytes: int


def files_in(folder: Path) -> tuple[File, ...]:
    """All files below ``folder``, by name.

    Raises BadPackage for what is neither file nor folder, links above all, wherever they lead: a link that is harmless
    here leads elsewhere on the device. For names see :mod:`.names`. A file with a second, hard link counts as what it
    holds: nobody can tell where the other one lies, and an archive with one is refused.
    """
    taken, found, pending = names.Names(), list[File](), [""]
    while pending:
        inside = pending.pop()
        with os.scandir(folder / inside) as entries:
            # a folder without end is not held in memory
            listed = sorted(itertools.islice(entries, names.MOST + 1), key=lambda entry: entry.name)
        for entry in listed:
            name = f"{inside}/{entry.name}" if inside else entry.name
            facts = entry.stat(follow_symlinks=False)
            is_folder = stat.S_ISDIR(facts.st_mode)
            try:
                taken.add(name, folder=is_folder)
            except ValueError as error:
                raise BadPackage(folder, str(error)) from error
            if is_folder:
                pending.append(name)
            elif stat.S_ISREG(facts.st_mode):
                found.append(File(name, folder / name, facts.st_size))
            else:
                raise BadPackage(folder, f"holds '{names.shown(name)}', which is {_kind(facts.st_mode)}")
    return tuple(sorted(found, key=lambda file: file.name))


def sha256_of(file: File) -> str:
    """The hex SHA-256 of what it holds."""
    with regular_file.opened(file.path, through_links=False) as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def read(file: File, *, most_bytes: int) -> bytes:
    """What it holds; ValueError, to complete "FILE ...", for more than ``most_bytes``."""
    with regular_file.opened(file.path, through_links=False) as content:
        held = content.read(most_bytes + 1)
    if len(held) > most_bytes:
        raise ValueError(f"has more than {most_bytes / 1e6:g} MB")
    return held


def _kind(mode: int) -> str:
    kinds = {stat.S_ISLNK: "a link", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}
    return next((name for is_kind, name in kinds.items() if is_kind(mode)), "a device")

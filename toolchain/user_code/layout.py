"""Where a user's file lies: the module that it is, and the folders in which its imports are looked for."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from toolchain.user_code import written

_MARKS = (".git", "pyproject.toml", "setup.py", "setup.cfg")
"""What stands at the root of a project."""


@dataclass(frozen=True)
class Layout:
    """``module`` is a dotted name below ``first``, where what is found comes before what is installed.

    ``then`` are folders in which is looked for what is found nowhere else.
    """

    module: str
    first: Path
    then: tuple[Path, ...]


def of_file(path: Path) -> Layout:
    """A file in a package is that package's module; without ``__init__.py`` too if it imports relative to one.

    Any other is a module on its own, with its neighbours beside it, as ``python FILE`` has it.
    """
    depth = max((level for _, level in written.imported(path)), default=0)
    while depth < len(path.parents) - 1 and (path.parents[depth] / "__init__.py").is_file():
        depth += 1
    depth = min(depth, len(path.parents) - 1)
    packages = [folder.name for folder in reversed(path.parents[:depth])]
    names = packages if path.stem == "__init__" else [*packages, path.stem]
    return _layout(".".join(names), path.parents[depth], path)


def of_file_alone(path: Path) -> Layout:
    """The file as a module on its own, whatever package it lies in."""
    return _layout(path.stem, path.parent, path)


def of_module(name: str, folder: Path) -> Layout:
    """A module as ``python -m`` finds it: in the ``folder`` of the command, in its ``src``, or installed."""
    return Layout(name, folder, (folder / "src",))


def on_path(folder: Path) -> bool:
    """Whether Python looks in ``folder`` anyway."""
    return any(Path(entry).resolve() == folder for entry in sys.path if entry)


def _layout(module: str, first: Path, path: Path) -> Layout:
    others = dict.fromkeys([path.parent, *_project_folders(path), Path.cwd()])
    return Layout(module, first, tuple(folder for folder in others if folder != first))


def _project_folders(path: Path) -> Iterator[Path]:
    """From the file's own folder up to the project's, and its ``src``; without a project's mark none."""
    for place, folder in enumerate(path.parents):
        if any((folder / mark).exists() for mark in _MARKS):
            yield from path.parents[: place + 1]
            yield folder / "src"
            return

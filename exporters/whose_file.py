"""Whose a file of Python code is: Python's own, that of a package which was installed, or else the user's."""

import sysconfig
from pathlib import PurePath

_PYTHONS = tuple(PurePath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))
_INSTALLED = {"site-packages", "dist-packages"}


def is_pythons(file: str) -> bool:
    """Whether it belongs to Python: its library's, or of no file at all, such as ``<string>``."""
    path = PurePath(file)
    return file.startswith("<") or (any(map(path.is_relative_to, _PYTHONS)) and not _is_packages(path))


def is_installed(file: str) -> bool:
    """Whether it is Python's, or of a package that anybody can install: an import finds it in another place too."""
    return is_pythons(file) or _is_packages(PurePath(file))


def _is_packages(path: PurePath) -> bool:
    return not _INSTALLED.isdisjoint(path.parts)

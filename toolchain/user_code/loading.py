"""From the file or module that a user named to the Python module."""

import functools
import re
from pathlib import Path
from types import ModuleType

import toolchain
from exporters.errors import in_words
from toolchain.errors import BadUsage
from toolchain.user_code import layout, written
from toolchain.user_code.layout import Layout
from toolchain.user_code.project import Project

_NNX = [Path(toolchain.__file__).resolve().parents[1] / name for name in ("toolchain", "exporters", "runtimes")]


def loaded(place: str) -> ModuleType:
    """The module that ``place`` names, ``FILE.py`` or ``package.module``; BadUsage when it is not there or raises."""
    return _loaded(Path(place).resolve()) if place.endswith(".py") else _imported(place, Path.cwd())


def files(place: str) -> list[Path]:
    """The file that ``place`` names and those of its project that it imports, but none of nnx's own."""
    path = _file_of(place)
    where = layout.of_file(path)
    folders = [folder for folder in (where.first, *where.then) if folder != Path.cwd() and not layout.on_path(folder)]
    found = written.files(path, folders)
    return [file for file in found if file == path or not any(file.is_relative_to(own) for own in _NNX)]


def absolute(place: str) -> str:
    """``place`` so that it means the same from another folder: the file of what lies in this one."""
    if not place.endswith(".py") and not _file_of(place).is_relative_to(Path.cwd()):
        return place
    return str(_file_of(place))


def _file_of(place: str) -> Path:
    if place.endswith(".py"):
        return Path(place).resolve()
    return Path(str(loaded(place).__file__)).resolve()


@functools.cache
def _loaded(path: Path) -> ModuleType:
    if not path.is_file():
        raise BadUsage(f"There is no file {path}.", "Name a Python file and what it holds, as file.py:NAME.")
    if "." in path.stem:
        return _run(path, layout.of_file_alone(path), by_path=True)
    where = layout.of_file(path)
    try:
        return _run(path, where)
    except BadUsage:
        if "." not in where.module or any(level for _, level in written.imported(path)):
            raise
        return _run(path, layout.of_file_alone(path))  # its package asks for what is not here, and it does not


def _run(path: Path, where: Layout, *, by_path: bool = False) -> ModuleType:
    try:
        return Project(where).load_file(path) if by_path else Project(where).load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # argparse at import ends in a SystemExit
        what = f"{path} could not be loaded: {_in_their_words(error)}."
        raise BadUsage(what, "Run it with python first; what is for scripts belongs below __main__.") from error


@functools.cache
def _imported(name: str, folder: Path) -> ModuleType:
    try:
        module = Project(layout.of_module(name, folder)).load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        what = f"{name} could not be imported: {_in_their_words(error)}."
        raise BadUsage(what, "Name a module that lies in this folder or is installed, or its file.") from error
    if getattr(module, "__file__", None) is None:
        raise BadUsage(f"{name} is a folder, not a module.", "Name a module in it, or its file.")
    return module


def _in_their_words(error: BaseException) -> str:
    """With modules by the names that the user gave them."""
    return re.sub(r"\bnnx_user_\d+\.", "", in_words(error))

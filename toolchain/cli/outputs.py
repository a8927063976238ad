"""Where a command's results go: looked at before the work, made when something is written."""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from toolchain.cli import types
from toolchain.errors import BadUsage

_NEVER_REPLACED = frozenset({"manifest.json", "training.json", "ablation.json", "explain.json"})
_WEIGHTS = (".data", ".2.data")
"""What the name of a model is followed by in that of its weights: :func:`exporters.external_data.data_names`."""
_DATA = re.compile(r".*\.(jpe?g|png|npz|npy|tsv|csv|txt)|data_batch_\d|test_batch", re.IGNORECASE | re.DOTALL)


def writable(path: Path, *, makes: str | None = None) -> Path:
    """``path``, after a look whether a file can be made there: a long job must not end in 'permission denied'.

    Nor may it end with a file of the user's gone: BadUsage for what is no file, and for what the command reads. Of an
    artifacts folder that is read only files that end in ``makes`` may be replaced, as ``path`` does by default. Its own
    folder need not exist, and is not made.
    """
    import tempfile

    from exporters.atomic_file import remove_leftovers

    try:
        with tempfile.TemporaryFile(dir=_nearest(path.parent)):
            pass
        found = path.stat() if os.path.lexists(path) and not _is_dangling(path) else None
    except OSError as error:
        raise BadUsage(
            f"{path} cannot be written: {os.strerror(error.errno or 0)}.",
            "Choose another place.",
        ) from error
    if found is not None:
        if stat.S_ISDIR(found.st_mode):
            raise BadUsage(f"{path} is a folder.", "Name a file.")
        if not stat.S_ISREG(found.st_mode):
            raise BadUsage(f"{path} is {types.kind_of(found.st_mode)}, not a file.", "Choose another place.")
        _refuse_what_is_read(path, found, path.suffix if makes is None else makes)
    if ".onnx" in (makes, path.suffix):
        _look_at_weights(path)
    remove_leftovers(Path(os.path.realpath(path)).parent)
    return path


def look_at_all(context: click.Context) -> None:
    """:func:`writable` for every output that was named, whatever option it came by; each must be another file."""
    seen: dict[str, Path] = {}
    for parameter in context.command.params:
        path = context.params.get(parameter.name or "")
        if isinstance(parameter.type, types.Output) and isinstance(path, Path):
            writable(path, makes=parameter.type.makes)
            if (place := os.path.realpath(path)) in seen:
                raise BadUsage(f"{path} is to be written twice.", "Choose another place for one of them.")
            seen |= {place: path, **{f"{place}{ending}": path for ending in _WEIGHTS if place.endswith(".onnx")}}


def _look_at_weights(output: Path) -> None:
    """BadUsage when the file that a model of more than 2 GB gets beside it would be in the way of something."""
    for ending in _WEIGHTS:
        beside = output.with_name(output.name + ending)
        if beside.is_dir() or (os.path.lexists(beside) and not beside.is_file()):
            raise BadUsage(f"{beside} is no file, and weights may have to go there.", "Choose another place.")
        if beside.exists():
            _refuse_what_is_read(beside, beside.stat(), beside.suffix)


def _is_dangling(path: Path) -> bool:
    """Whether it is a link to a file that can still be made."""
    return path.is_symlink() and not os.path.lexists(os.path.realpath(path))


def _nearest(folder: Path) -> Path:
    """What is there of ``folder``: itself, or the nearest above it."""
    return next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))


def _refuse_what_is_read(output: Path, found: os.stat_result, makes: str) -> None:
    """BadUsage when ``output``, which is there, is a file that the command reads, by whatever name or link."""
    context = click.get_current_context(silent=True)
    if context is None:
        return
    for named in _named(context):
        if any(_is(found, file) for file in (named, *_weights_of(named))):
            raise _is_read(output)
        if named.is_dir() and _belongs_to(output, named, makes):
            raise _is_read(output)


def _named(context: click.Context) -> Iterator[Path]:
    """Whatever is there of what the user named to be read: paths, and files inside words such as ``file.py:name``."""
    for parameter in context.command.params:
        if isinstance(parameter.type, (types.Output, types.OutputFolder)):
            continue
        for value in _values(context.params.get(parameter.name or "")):
            words = [value] if isinstance(value, Path) else [value, value.rpartition(":")[0], value.partition("=")[2]]
            yield from (Path(word) for word in words if str(word) and os.path.lexists(word))


def _values(value: object) -> Iterable[Path | str]:
    if isinstance(value, (list, tuple)):
        return [each for each in value if isinstance(each, (Path, str))]
    return [value] if isinstance(value, (Path, str)) else []


def _is(found: os.stat_result, file: Path) -> bool:
    try:
        return os.path.samestat(found, file.stat())
    except OSError:
        return False


def _weights_of(named: Path) -> tuple[Path, ...]:
    """The files beside a model, or beside a folder's models, that hold its weights."""
    from exporters.errors import ExporterError
    from exporters.model_file import ModelFile

    found: list[Path] = []
    for model in sorted(named.glob("*.onnx")) if named.is_dir() else [named]:
        if model.suffix == ".onnx" and model.is_file():
            try:
                found += ModelFile(model).external_files
            except (ExporterError, OSError):  # the command itself says what is wrong with it
                continue
    return tuple(found)


def _belongs_to(output: Path, folder: Path, makes: str) -> bool:
    """Whether it lies in a folder that is read, and is none of the results that are made anew there."""
    from toolchain.manifest import NAME

    place, inside = Path(os.path.realpath(output)), Path(os.path.realpath(folder))
    if not place.is_relative_to(inside):
        return False
    if not (inside / NAME).is_file():  # no artifacts: images, or a data set
        return _DATA.fullmatch(place.name) is not None
    return place.name in _NEVER_REPLACED or place.suffix != makes


def _is_read(output: Path) -> BadUsage:
    return BadUsage(f"{output} is what is to be read.", "Choose another place for the result.")


def artifacts_folder(recipe: str, out: Path | None) -> Path:
    """``--out``, or ``artifacts/<recipe>``; what stands in a file is called by the file's name and its own."""
    place, colon, attribute = recipe.rpartition(":")
    if colon:
        last = Path(place).stem if place.endswith(".py") else place.rpartition(".")[2]
        name = last if attribute == "recipe" else f"{last}-{attribute}"
    else:
        name = Path(recipe).stem
    folder = out or Path("artifacts") / name
    writable(folder / "manifest.json")
    return folder

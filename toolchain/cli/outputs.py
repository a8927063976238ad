"""Where a command's results go: looked at before the work, made when something is written."""

import os
from collections.abc import Iterable
from pathlib import Path

from toolchain.errors import BadUsage


def writable(path: Path) -> Path:
    """``path``, after a look whether a file can be made there: a long job must not end in 'permission denied'.

    Its folder need not exist, and is not made.
    """
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=_nearest(path.parent)):
            pass
    except OSError as error:
        raise BadUsage(
            f"{path} cannot be written: {os.strerror(error.errno or 0)}.",
            "Choose another place.",
        ) from error
    if path.is_dir():
        raise BadUsage(f"{path} is a folder.", "Name a file.")
    return path


def _nearest(folder: Path) -> Path:
    """What is there of ``folder``: itself, or the nearest above it."""
    return next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))


def refuse_overwriting(output: Path, read: Iterable[Path]) -> None:
    """BadUsage when ``output`` is one of the files that are read."""
    if any(output.resolve() == path.resolve() for path in read):
        raise BadUsage(f"{output} is what is to be measured.", "Choose another place for the result.")


def artifacts_folder(recipe: str, out: Path | None) -> Path:
    """``--out``, or ``artifacts/<recipe>``; what stands in a file is called by the file's name and its own."""
    file, colon, attribute = recipe.rpartition(":")
    name = recipe if not colon else Path(file).stem + ("" if attribute == "recipe" else f"-{attribute}")
    folder = out or Path("artifacts") / name
    writable(folder / "manifest.json")
    return folder

"""What the text of an option or argument is read as."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from toolchain.machine.conditions import processors_in


class Named(click.Path):
    """A path that, where something is there, leads to a file or a folder: no pipe, no device, no circle of links."""

    def __init__(self, *, file: bool = True, folder: bool = False) -> None:
        super().__init__(path_type=Path, file_okay=file, dir_okay=folder)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path: Path = super().convert(value, param, ctx)  # type: ignore[assignment]
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return path  # the command says best what is missing
        except (OSError, ValueError) as error:
            reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
            self.fail(f"{str(path)[:80]!r} cannot be looked at: {reason}.", param, ctx)
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            self.fail(f"'{path}' is {kind_of(mode)}, not a file.", param, ctx)
        return path


class Output(Named):
    """A file that the command writes, as a rule one that ends in ``makes``; all are looked at before the work."""

    def __init__(self, makes: str) -> None:
        super().__init__()
        self.makes = makes


class OutputFolder(Named):
    """A folder that the command writes in."""

    def __init__(self) -> None:
        super().__init__(file=False, folder=True)


def kind_of(mode: int) -> str:
    """What an entry is that is neither file nor folder, with its article."""
    kinds = {stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}
    return next((name for is_kind, name in kinds.items() if is_kind(mode)), "something else")


FILE = Named()
OUTPUT_FOLDER = OutputFolder()
FOLDER = Named(file=False, folder=True)
FILE_OR_FOLDER = Named(folder=True)
OPSET = click.IntRange(18, 26)
"""What :mod:`exporters.torch_onnx` can honour; written out here because importing it takes seconds."""


class NumberList(click.ParamType):  # type: ignore[type-arg]  # not subscriptable in older clicks
    """Whole numbers from 1 on, separated by commas."""

    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            numbers = ()
        if not numbers or min(numbers) < 1:
            self.fail(f"'{value}' is not a list of whole numbers from 1 on, such as 1,32.", param, ctx)
        return numbers


class Length(click.ParamType):  # type: ignore[type-arg]
    """``batch=1``: an open axis by its name, or ``x:0``, and a length for it."""

    name = "AXIS=N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        axis, _, length = str(value).rpartition("=")
        if not axis or not length.isascii() or not length.isdigit() or not 0 < int(length) < 2**31:
            self.fail(f"'{value}' is not something like batch=1.", param, ctx)
        return axis, int(length)


class Renaming(click.ParamType):  # type: ignore[type-arg]
    """``old=new``."""

    name = "OLD=NEW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        old, _, new = str(value).rpartition("=")
        if not old or not new:
            self.fail(f"'{value}' is not something like image=pixels.", param, ctx)
        return old, new


class Points(click.ParamType):  # type: ignore[type-arg]
    """Percentage points from 0 to 100, given as a share."""

    name = "POINTS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            points = float(value)
        except ValueError:
            points = -1.0
        if not 0 <= points <= 100:  # NaN neither
            self.fail(f"'{value}' is no number of points from 0 to 100.", param, ctx)
        return points / 100


class Drop(click.ParamType):  # type: ignore[type-arg]
    """A number from 0 on, in a unit that another option decides."""

    name = "NUMBER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number < float("inf"):  # NaN neither
            self.fail(f"'{value}' is no number from 0 on.", param, ctx)
        return number


class CpuList(click.ParamType):  # type: ignore[type-arg]
    """Processors: ``0,1`` or ``2-5``."""

    name = "CPUS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple) or not value:
            return tuple(value)
        try:
            chosen = processors_in(str(value))
        except ValueError:
            chosen = set()
        if not chosen:
            self.fail(f"'{value}' is not a list of processors such as 0,1 or 2-5.", param, ctx)
        return tuple(sorted(chosen))


class Duration(click.ParamType):  # type: ignore[type-arg]
    """``90s``, ``10m``, ``1h``, ``200ms``, ``45`` (seconds); given as seconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        return _scaled(self, value, {"ms": 1e-3, "s": 1, "m": 60, "h": 3600}, "90s, 10m or 1h", param, ctx)


class Size(click.ParamType):  # type: ignore[type-arg]
    """Bytes: ``500MB``, ``2GB``."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        units = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "B": 1}
        return int(_scaled(self, value, units, "500MB or 2GB", param, ctx))


class Percent(click.ParamType):  # type: ignore[type-arg]
    """``5%`` or ``5``, given as the share 0.05."""

    name = "PERCENT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        return _scaled(self, value, {"%": 1}, "2% or 0.5%", param, ctx) / 100


def _scaled(
    kind: click.ParamType,  # type: ignore[type-arg]
    value: str,
    units: Mapping[str, float],
    examples: str,
    param: click.Parameter | None,
    ctx: click.Context | None,
) -> float:
    """A positive number with one of ``units``, or none, behind it."""
    unit = next((unit for unit in units if value.lower().endswith(unit.lower())), "")
    try:
        number = float(value[: len(value) - len(unit)])
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        kind.fail(f"'{value}' is not something like {examples}.", param, ctx)
    return number * (units[unit] if unit else 1)

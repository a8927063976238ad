"""What the text of an option or argument is read as."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from toolchain.machine.conditions import processors_in

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE_OR_FOLDER = click.Path(path_type=Path)
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

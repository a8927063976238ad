"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from toolchain.errors import BadUsage

Command = TypeVar("Command", bound=Callable[..., Any])
FILE = click.Path(path_type=Path, dir_okay=False)
OPSET = click.IntRange(18, 26)
"""What :mod:`exporters.torch_onnx` can honour; written out here because importing it takes seconds."""
FOLDER = click.Path(path_type=Path, file_okay=False)


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


def data(function: Command) -> Command:
    return click.option("--data", type=FOLDER, help="Folder that holds the recipe's data set (cifar10, sst2).")(
        function
    )


def out_folder(function: Command) -> Command:
    return click.option("--out", type=FOLDER, help="Folder for what is made.  [default: artifacts/RECIPE]")(function)


def as_json(function: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def opset(function: Command) -> Command:
    return click.option("--opset", type=OPSET, default=20, show_default=True, help="ONNX operator set.")(function)


def training(function: Command) -> Command:
    """How to train, for the commands that may have to."""
    for decorate in reversed(
        (
            click.option("--epochs", type=click.IntRange(min=1), help="Passes over the data.  [default: the recipe's]"),
            click.option("--batch-size", type=click.IntRange(min=1), help="Samples a step.  [default: the recipe's]"),
            click.option("--lr", type=float, help="Learning rate, or its peak.  [default: the recipe's]"),
            click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=42, show_default=True, help="Seed."),
            click.option(
                "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
                help="Where to train.",
            ),
            click.option(
                "--amp", type=click.Choice(["auto", "fp16", "bf16", "off"]), default="auto", show_default=True,
                help="Autocast precision; auto is the one that is fast on the device.",
            ),
            click.option("--compile/--no-compile", default=None, help="Use torch.compile.  [default: where it pays]"),
            click.option(
                "--compile-mode", type=click.Choice(["default", "reduce-overhead", "max-autotune"]), default="default",
                show_default=True, help="What torch.compile aims at.",
            ),
        )
    ):  # fmt: skip
        function = decorate(function)
    return function


def measuring(function: Command) -> Command:
    """How to bench."""
    for decorate in reversed(
        (
            click.option(
                "--provider", "providers", multiple=True, default=("cpu",), show_default=True, metavar="NAME",
                help="Execution provider: cpu, cuda, ...; may be repeated.",
            ),
            click.option(
                "--batch", "batches", type=NumberList(), default="1,32", show_default=True, help="Batch sizes."
            ),
            click.option("--threads", type=click.IntRange(min=1), help="Threads a row.  [default: the cores]"),
            click.option(
                "--max-time", type=click.FloatRange(min=0), default=20.0, show_default=True, metavar="SECONDS",
                help="Stop adding rounds after this long in each setting.",
            ),
        )
    ):  # fmt: skip
        function = decorate(function)
    return function


def writable(path: Path) -> Path:
    """``path``, after a look whether a file can be made there: a long job must not end in 'permission denied'."""
    import os
    import tempfile

    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadUsage(
            f"{path} cannot be written: {os.strerror(error.errno or 0)}.",
            "Choose another place.",
        ) from error
    if path.is_dir():
        raise BadUsage(f"{path} is a folder.", "Name a file.")
    return path


def artifacts_folder(recipe: str, out: Path | None) -> Path:
    """``--out``, or ``artifacts/<recipe>``; what stands in a file is called by the file's name and its own."""
    file, colon, attribute = recipe.rpartition(":")
    name = recipe if not colon else Path(file).stem + ("" if attribute == "recipe" else f"-{attribute}")
    folder = out or Path("artifacts") / name
    writable(folder / "manifest.json")
    return folder

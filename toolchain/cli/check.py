"""``nnx check``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import options, types

if TYPE_CHECKING:
    from toolchain.inspection.faults import Verdict


@click.command("check")
@click.argument("model", type=types.FILE)
@options.target_ort
@options.as_json
def command(model: Path, target_ort: str | None, as_json: bool) -> None:
    """List every fault of MODEL at once, however broken it is.

    Looked at: the file itself, weights beside it, versions, names, dead nodes, operators and shapes, operators that the
    installed ONNX Runtime lacks, or the release of --target-ort too, NaN and infinite weights, what overflows in fp16,
    Q/DQ pairs that cannot fuse. Each has a line on what to do. Warnings are what a file may have and still do its work.
    Exits with 1 when there is a fault.

    \b
    Example:
      nnx check model.onnx
      nnx check model.onnx --target-ort 1.17
    """
    from toolchain.console import print_result
    from toolchain.errors import CheckFailed
    from toolchain.inspection.check import check
    from toolchain.inspection.releases import release

    verdict = check(model, None if target_ort is None else release(target_ort))
    if as_json:
        print_result(verdict.to_json())
    else:
        show(verdict)
    if not verdict.sound:
        raise CheckFailed(f"{model} has faults.", "Mend what is marked, then check it again.")


def show(verdict: "Verdict") -> None:
    """A line a fault, for a person."""
    from toolchain.console import print_result, results_width
    from toolchain.inspection.check import lines

    print_result("\n".join(lines(verdict, results_width())))

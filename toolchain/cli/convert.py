"""``nnx convert``."""

from dataclasses import dataclass
from pathlib import Path

import click

from toolchain.cli import options, types
from toolchain.cli.option_groups import group, option
from toolchain.cli.outputs import writable

_OF_A_PRECISION = (
    "fp16_io", "keep_fp32", "metric", "lower_is_better", "max_drop", "min_sqnr", "min_cosine", "search", "budget",
    "plan", "save_plan",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The file to make."""

    fp16: bool = option("--fp16", is_flag=True, help="To half precision.")
    bf16: bool = option("--bf16", is_flag=True, help="To bfloat16 weights.")
    output: Path | None = option(
        "-o", "--output", type=types.Output(".onnx"),
        help="The new file.  [default: MODEL.PRECISION.onnx or MODEL.edited.onnx beside MODEL]",
    )  # fmt: skip
    fp16_io: bool = option(
        "--fp16-io", is_flag=True, help="Make inputs and outputs fp16 too; they stay fp32 otherwise."
    )
    keep_fp32: tuple[str, ...] = option(
        "--keep-fp32", multiple=True, metavar="NODE", help="A node to leave in fp32; may be repeated."
    )

    def __post_init__(self) -> None:
        if self.fp16 and self.bf16:
            raise click.UsageError("Choose one: --fp16 or --bf16.")
        if self.fp16_io and not self.fp16:
            raise click.UsageError("--fp16-io goes with --fp16.")

    @property
    def precision(self) -> str:
        return "fp16" if self.fp16 else "bf16" if self.bf16 else ""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What is changed of a model that computes what it did."""

    lengths: tuple[tuple[str, int], ...] = option(
        "--fix", type=types.Length(), multiple=True,
        help="Fix an open axis, by its name or as INPUT:NUMBER; may be repeated.",
    )  # fmt: skip
    names: tuple[tuple[str, str], ...] = option(
        "--rename", type=types.Renaming(), multiple=True, help="Rename an input or output; may be repeated."
    )
    start: tuple[str, ...] = option(
        "--from", multiple=True, metavar="TENSOR", help="Cut out the part that begins here; may be repeated."
    )
    end: tuple[str, ...] = option(
        "--to", multiple=True, metavar="TENSOR", help="Cut out the part that ends here; may be repeated."
    )
    float_io: str | None = option(
        "--float-io", type=click.Choice(["fp16", "fp32"]),
        help="What float inputs and outputs are, with Casts at the border; inside nothing changes. Other tools say "
        "keep_io_types.",
    )  # fmt: skip
    simplify: bool = option(
        "--simplify", is_flag=True,
        help="Take out the nodes that onnxslim (the extra slim) or onnxscript's optimizer can, whichever leaves fewer.",
    )  # fmt: skip
    strip: bool = option("--strip", is_flag=True, help="Drop documentation, stack traces and others' metadata.")
    opset: int | None = option("--opset", type=click.IntRange(7, 26), help="Raise or lower the ONNX operator set.")
    ir_version: int | None = option("--ir-version", type=click.IntRange(3, 14), help="Write the file for this IR.")
    target_ort: str | None = option(
        "--target-ort", metavar="RELEASE",
        help="A release of ONNX Runtime that must take the file, such as 1.17: opset and IR are lowered to its.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        for option_, pairs in (("--fix", self.lengths), ("--rename", self.names)):
            if len({name for name, _ in pairs}) != len(pairs):
                raise click.UsageError(f"{option_} names one twice.")

    @property
    def any(self) -> bool:
        return any(
            (
                self.lengths, self.names, self.start, self.end, self.float_io, self.simplify, self.strip, self.opset,
                self.ir_version, self.target_ort,
            )
        )  # fmt: skip


@click.command("convert")
@click.argument("model", type=types.FILE)
@group("wanted", Wanted)
@group("changes", Changes)
@options.stored
@options.calibration
@options.gate
@options.data
@options.as_json
def command(
    model: Path,
    wanted: Wanted,
    changes: Changes,
    stored: options.Stored,
    calibration: options.CalibrationChoices,
    gate: options.Gate,
    data: Path | None,
    as_json: bool,
) -> None:
    """Convert MODEL to fp16 or bf16, or change its form, and compare the result with it.

    Without --fp16 and --bf16 it keeps what it computes: axes are fixed, inputs and outputs renamed, the part between
    two tensors cut out, nodes simplified away, float inputs and outputs made fp16 or fp32, metadata stripped, the
    operator set and the IR version changed, weights moved out of the file or in; several of these at once.

    Nodes with constants that half precision cannot hold stay in fp32, and are named; with --calibration so do those
    whose activations overflow or vanish. fp16 halves the file everywhere; it saves time on GPUs, not on CPUs.

    \b
    Example:
      nnx convert artifacts/digits/model.onnx --fp16 --calibration digits
      nnx convert model.onnx --fix batch=1 --rename image=pixels --to features -o head.onnx
    """
    from exporters.edits import Edits
    from exporters.model_file import ModelFile
    from toolchain.cli.made import show
    from toolchain.console import LiveProgress
    from toolchain.conversion import editing, fitting
    from toolchain.conversion.precisions import Bf16, Fp16
    from toolchain.conversion.target import Target

    moves = stored.external_data != "auto"
    if wanted.precision and changes.any:
        raise click.UsageError("Change the form first, then the precision: each makes a file of its own.")
    if not (wanted.precision or changes.any or moves):
        raise click.UsageError(
            "Choose one: add --fp16, --bf16, --fix, --rename, --from, --to, --float-io, --simplify, --strip, --opset, "
            "--ir-version, --target-ort or --external-data."
        )
    ending = wanted.precision or "edited"
    destination = writable(wanted.output or model.with_name(f"{model.stem}.{ending}.onnx"))
    goal = gate.goal(wanted.keep_fp32, *calibration.named)
    given = calibration.given(data, goal.metric)
    progress = LiveProgress()
    if not wanted.precision:
        options.refuse(_OF_A_PRECISION, "for a change of form")
        source = ModelFile(model)
        target = Target.of(changes.target_ort, opset=changes.opset, ir_version=changes.ir_version, file=source)
        asked = Edits(
            fix=dict(changes.lengths), rename=dict(changes.names), start=changes.start, end=changes.end,
            float_io=changes.float_io or "", simplify=changes.simplify, strip=changes.strip, opset=target.opset,
            ir_version=target.ir_version,
        )  # fmt: skip
        with stored.writing():
            made = editing.edit(source, destination, asked, given=given.source(progress), target=target)
        show(made, as_json)
        return
    precision = Fp16(keep_io_types=not wanted.fp16_io) if wanted.fp16 else Bf16()
    with stored.writing():
        made = fitting.convert(
            ModelFile(model), destination, precision, given=given.source(progress), goal=goal, progress=progress
        )
    gate.keep(made.plan, goal)
    show(made, as_json)

"""``nnx export``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolchain.cli import options, types
from toolchain.cli.option_groups import group, option
from toolchain.cli.outputs import artifacts_folder, writable

if TYPE_CHECKING:
    from toolchain.conversion.proof import Proven
    from toolchain.conversion.target import Target
    from toolchain.training import given_weights


@dataclass(frozen=True, kw_only=True)
class Example:
    """What a factory's module takes and gives, where it does not say so itself."""

    inputs: tuple[str, ...] = option(
        "--input", multiple=True, metavar="NAME=DTYPE[N,...]",
        help="An input of forward(), by its name there, such as image=float32[1,3,h,w]: axis 0, or the one named batch "
        "or N, is the batch, names are dynamic too, numbers fixed; may be repeated.",
    )  # fmt: skip
    input_data: str | None = option(
        "--input-data", "--samples", metavar="DATA",
        help="Real inputs for the proof: an .npz with one array per input, or file.py:calls, several calls of the "
        "model, whose changing lengths are its dynamic axes.",
    )  # fmt: skip
    output_names: tuple[str, ...] = option(
        "--output-name", multiple=True, metavar="NAME", help="Name of an output; may be repeated."
    )


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Which weights the model gets."""

    file: Path | None = option("--weights", type=types.FILE, help="Weights to load: .pt, .pth, .ckpt or .safetensors.")
    key: str | None = option(
        "--key", metavar="KEY", help="Where in the file they are, such as ema or state.net.  [default: what fits]"
    )
    strip_prefix: str | None = option(
        "--strip-prefix", metavar="TEXT", help="Taken off their names; names without it are left out.  "
        "[default: what they share]"
    )  # fmt: skip
    no_strict: bool = option("--no-strict", is_flag=True, help="Leave out what does not fit, and say so.")


@dataclass(frozen=True, kw_only=True)
class Written(options.Stored):
    """What is written, and for what."""

    bisect: bool = option(
        "--bisect", is_flag=True,
        help="Make no model, but find the smallest module that fails, and write OUTPUT's name with .repro.py: a file "
        "that shows the fault with torch and onnxruntime alone.",
    )  # fmt: skip

    opset: int | None = option(
        "--opset", type=types.OPSET, help="ONNX operator set.  [default: 20, or what --target-ort knows]"
    )
    ir_version: int | None = option(
        "--ir-version", type=click.IntRange(3, 14), help="IR version of the file.  [default: what the opset came with]"
    )

    target_ort: str | None = option(
        "--target-ort", metavar="RELEASE", help="A release of ONNX Runtime that must take the file, such as 1.17."
    )


@click.command("export")
@click.argument("model")
@click.option(
    "-o", "--output", type=types.Output(".onnx"), help="The .onnx file.  [default: artifacts/NAME/model.onnx]"
)
@click.option(
    "--arg",
    "arguments",
    multiple=True,
    metavar="NAME=JSON",
    help="An argument of what makes MODEL, such as width=64; may be repeated.",
)
@group("weights", Weights)
@group("example", Example)
@group("written", Written)
@options.data
@options.as_json
def command(
    model: str,
    output: Path | None,
    arguments: tuple[str, ...],
    weights: Weights,
    example: Example,
    written: Written,
    data: Path | None,
    as_json: bool,
) -> None:
    """Export MODEL to ONNX with a dynamic batch, and compare it with PyTorch at batch 1, 2, 7 and a large one.

    MODEL is a recipe (trained first where it was not); file.py:NAME or package.module:NAME, where NAME is a module, a
    class of them, or what returns one, with or without its example inputs as a dict; a .pt2 file; a Hugging Face
    folder; or timm:NAME. Its outputs are named by forward()'s own keys and fields. A file keeps no state: a module
    whose answer depends on what it remembers is refused. --weights takes a .safetensors, or a checkpoint in which one
    set of weights fits, whatever prefix its names share. Nothing appears under the final name unless it agrees with
    PyTorch.

    \b
    Example:
      nnx export digits
      nnx export ./my-hugging-face-folder -o model.onnx
      nnx export net.py:Net --input image=float32[1,3,224,224] --bisect -o net.onnx
      nnx export net.py:Net --arg width=64 --weights best.pt --input image=float32[1,3,224,224] -o net.onnx
    """
    from toolchain.artifacts_folder import MODELS
    from toolchain.cli.made import show
    from toolchain.inputs import sources

    dst = writable(output or artifacts_folder(model, None) / MODELS["fp32"])
    if written.bisect:
        _bisect(model, dst, arguments=arguments, weights=weights, example=example, written=written, as_json=as_json)
        return
    if sources.is_recipe(model):
        made = _recipe(model, dst, arguments=arguments, weights=weights, example=example, written=written, data=data)
    else:
        made = _named(model, dst, arguments=arguments, weights=weights, example=example, written=written)
    show(made, as_json)


def _recipe(
    model: str, dst: Path, *, arguments: tuple[str, ...], weights: Weights, example: Example, written: Written,
    data: Path | None,
) -> "Proven":  # fmt: skip
    """Of a recipe, trained now where it was not."""
    from toolchain import folder_lock, pipeline
    from toolchain.console import LiveProgress
    from toolchain.conversion import exporting
    from toolchain.inputs import sources
    from toolchain.machine import memory_limit
    from toolchain.training import given_weights
    from toolchain.training import options as training_options

    if arguments or example.inputs or example.input_data or example.output_names:
        raise click.UsageError("A recipe knows its model and inputs: give --weights alone, or leave it out.")
    recipe = sources.recipe_named(model)
    given = _given(weights)
    if given is None:
        progress = LiveProgress()
        context, folder = click.get_current_context(), artifacts_folder(model, None)
        context.with_resource(folder_lock.held(folder, context.obj or ()))  # it may train there
        road = pipeline.Pipeline(model, folder, data_folder=data, progress=progress)
        trained = road.trained(training_options.resolve(recipe, progress=progress))
        given = given_weights.Weights(file=trained)
    with memory_limit.held(), written.writing():
        return exporting.export_recipe(recipe, recipe.data(data).load(), given, dst, target=_target(written))


def _named(
    model: str, dst: Path, *, arguments: tuple[str, ...], weights: Weights, example: Example, written: Written
) -> "Proven":
    """Of a model that is no recipe."""
    from toolchain.console import LiveProgress
    from toolchain.conversion import exporting
    from toolchain.inputs import factories
    from toolchain.machine import memory_limit

    options.refuse(("data",), "for a model that is no recipe")
    with memory_limit.held(), written.writing():
        return exporting.export_named(
            model, dst, arguments=factories.arguments(arguments), weights=_given(weights),
            input_specs=example.inputs, input_data=example.input_data, output_names=example.output_names,
            target=_target(written),
            progress=LiveProgress(),
        )  # fmt: skip


def _bisect(
    model: str, dst: Path, *, arguments: tuple[str, ...], weights: Weights, example: Example, written: Written,
    as_json: bool,
) -> None:  # fmt: skip
    """Find what in a model fails, instead of exporting it."""
    from toolchain.bisection import bisecting
    from toolchain.console import LiveProgress, print_json, print_text
    from toolchain.inputs import factories, sources
    from toolchain.machine import memory_limit

    if sources.is_recipe(model):
        raise click.UsageError(
            "--bisect looks into a model, not a recipe: name what makes the recipe's module, say FILE.py:NAME."
        )
    options.refuse(("output_names", "external_data", "data"), "with --bisect, which makes no model")
    path = writable(dst.with_suffix(".repro.py"))
    with memory_limit.held():
        found = bisecting.bisect_named(
            model, path, arguments=factories.arguments(arguments), weights=_given(weights),
            input_specs=example.inputs, input_data=example.input_data, target=_target(written),
            progress=LiveProgress(),
        )  # fmt: skip
    if as_json:
        print_json(found.to_json())
    else:
        print_text(found.text)
    if found.finding is not None:
        raise found.finding.to_error(model)


def _target(written: Written) -> "Target":
    from toolchain.conversion.target import Target

    return Target.of(written.target_ort, opset=written.opset, ir_version=written.ir_version)


def _given(weights: Weights) -> "given_weights.Weights | None":
    from toolchain.training import given_weights

    if weights.file is None:
        if weights.key or weights.strip_prefix or weights.no_strict:
            raise click.UsageError("--key, --strip-prefix and --no-strict are about the file of --weights.")
        return None
    return given_weights.Weights(
        file=weights.file, key=weights.key, strip_prefix=weights.strip_prefix, strict=not weights.no_strict
    )

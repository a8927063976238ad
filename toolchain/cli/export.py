"""``nnx export``."""

from dataclasses import dataclass
from pathlib import Path

import click

from toolchain.cli import options, types
from toolchain.cli.option_groups import group, option
from toolchain.cli.outputs import artifacts_folder, writable


@dataclass(frozen=True, kw_only=True)
class Example:
    """What a factory's module takes and gives, where it does not say so itself."""

    inputs: tuple[str, ...] = option(
        "--input", multiple=True, metavar="NAME=DTYPE[N,...]",
        help="An input of forward(), by its name there, such as image=float32[1,3,h,w]: axis 0, or the one named batch "
        "or N, is the batch, names are dynamic too, numbers fixed; may be repeated.",
    )  # fmt: skip
    samples: Path | None = option(
        "--samples", type=types.FILE, help="Real inputs for the proof: an .npz with one array per input."
    )
    output_names: tuple[str, ...] = option(
        "--output-name", multiple=True, metavar="NAME", help="Name of an output; may be repeated."
    )


@click.command("export")
@click.argument("model")
@click.option(
    "-o", "--output", type=types.Output(".onnx"), help="The .onnx file.  [default: artifacts/NAME/model.onnx]"
)
@click.option("--weights", type=types.FILE, help="Checkpoint or state_dict to load into the model.")
@group("example", Example)
@options.opset
@options.data
@options.as_json
def command(
    model: str,
    output: Path | None,
    weights: Path | None,
    example: Example,
    opset: int,
    data: Path | None,
    as_json: bool,
) -> None:
    """Export MODEL to ONNX with a dynamic batch, and compare it with PyTorch at batch 1, 2, 7 and a large one.

    MODEL is a recipe (trained first where it was not), or file.py:factory, a function that returns a torch.nn.Module,
    or a module and its example inputs as a dict. Its outputs are named by forward()'s own keys and fields. A file
    keeps no state: a module whose answer depends on what it remembers is refused. --weights takes a .safetensors, or
    a checkpoint in which one set of weights fits, whatever prefix its names share. Nothing appears under the final
    name unless it agrees with PyTorch.

    \b
    Example:
      nnx export digits
      nnx export net.py:make --weights best.pt --input image=float32[1,3,224,224] -o net.onnx
    """
    from toolchain import folder_lock, pipeline
    from toolchain.artifacts_folder import MODELS
    from toolchain.cli.made import show
    from toolchain.console import LiveProgress
    from toolchain.conversion import exporting
    from toolchain.inputs import sources
    from toolchain.machine import memory_limit
    from toolchain.training import options as training_options

    progress = LiveProgress()
    dst = writable(output or artifacts_folder(model, None) / MODELS["fp32"])
    if sources.is_recipe(model):
        if example.inputs or example.samples or example.output_names:
            raise click.UsageError("A recipe knows its inputs: leave --input, --samples and --output-name out.")
        recipe = sources.recipe_named(model)
        if weights is None:
            context, folder = click.get_current_context(), artifacts_folder(model, None)
            context.with_resource(folder_lock.held(folder, context.obj or ()))  # it may train there
            road = pipeline.Pipeline(model, folder, data_folder=data, progress=progress)
            weights = road.trained(training_options.resolve(recipe, progress=progress))
        with memory_limit.held():
            made = exporting.export_recipe(recipe, recipe.data(data).load(), weights, dst, opset=opset)
    else:
        with memory_limit.held():
            made = exporting.export_factory(
                model, dst, weights=weights, input_specs=example.inputs, samples_file=example.samples,
                output_names=example.output_names, opset=opset, progress=progress,
            )  # fmt: skip
    show(made, as_json)

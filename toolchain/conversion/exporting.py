"""From what a user names, a factory or a recipe, to a proven fp32 file."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from exporters import torch_weights
from exporters.atomic_file import sha256_of
from toolchain.accuracy import running
from toolchain.conversion import ladder
from toolchain.conversion.proof import Proven
from toolchain.conversion.settling import settle
from toolchain.conversion.target import Target
from toolchain.datasets.dataset import Dataset
from toolchain.errors import BadUsage
from toolchain.inputs import calls, models, samples
from toolchain.inputs.examples import Example
from toolchain.inputs.factories import Made
from toolchain.progress import SILENT, Progress
from toolchain.recipes.recipe import Recipe
from toolchain.training import given_weights
from toolchain.training.given_weights import Weights


def export_named(
    model: str,
    dst: Path,
    *,
    arguments: Mapping[str, Any] | None = None,
    weights: Weights | None = None,
    input_specs: Sequence[str] = (),
    input_data: str | None = None,
    output_names: Sequence[str] = (),
    target: Target | None = None,
    progress: Progress = SILENT,
) -> Proven:
    """Export what a user named (see :func:`models.named`) to ``dst``, proven on the inputs given."""
    made = named(model, arguments or {}, weights, progress)
    with made.surroundings():
        example = models.example_of(made, input_specs, input_data)
        with torch_weights.in_files(made.module):
            return _proven(
                made.module,
                dst,
                example,
                output_names=output_names,
                target=target or Target(),
                facts={"factory": Path(model).name, **made.facts},
                progress=progress,
            )


def named(model: str, arguments: Mapping[str, Any], weights: Weights | None, progress: Progress) -> Made:
    """What a user named, with its weights; what is to be said of both is told."""
    made = models.named(model, arguments)
    if weights is not None:
        for note in given_weights.load(made.module, weights):
            progress.note(note)
    elif made.is_untrained:
        progress.warn("No --weights: the model is exported as it was made.")
    for note in made.notes:
        progress.note(note)
    return made


def export_recipe(recipe: Recipe, data: Dataset, weights: Weights, dst: Path, *, target: Target) -> Proven:
    """Export a trained recipe to ``dst``, proven on its test split."""
    module = recipe.model()
    given_weights.load(module, weights)
    example = calls.of_samples(samples.of_test_split(recipe, data, running.SAMPLES))
    with torch_weights.in_files(module):
        return _proven(
            module,
            dst,
            example,
            output_names=(),
            named=recipe.named_output,
            target=target,
            facts={"recipe": recipe.name, "weights_sha256": sha256_of(weights.file)},
        )


def _proven(
    module: torch.nn.Module,
    dst: Path,
    example: Example,
    *,
    output_names: Sequence[str],
    facts: Mapping[str, str],
    target: Target,
    progress: Progress = SILENT,
    named: Callable[[str, Sequence[str]], str] = lambda name, names: name,
) -> Proven:
    """Export to ``dst``, traced and proven on ``example``.

    ``named`` says what an output is called that has no name among ``output_names``, of what it is called in PyTorch.
    """
    reference, found = settle(module, example)
    if output_names and len(output_names) != len(found.outputs):
        raise BadUsage(
            f"forward() returns {len(found.outputs)} tensors ({', '.join(found.outputs)}), "
            f"and {len(output_names)} names are given.",
            "Give --output-name once for each, or leave it out.",
        )
    own = tuple(found.outputs)
    names = tuple(output_names) or tuple(named(name, own) for name in own)
    if len({*names, *found.example.axes}) != len(names) + len(found.example.axes):
        raise BadUsage("Two inputs or outputs have one name.", "Give each a name of its own.")
    return ladder.climbed(
        reference,
        found,
        dst,
        output_axes=dict(zip(names, found.outputs.values(), strict=True)),
        target=target,
        facts=facts,
        failed=lambda rung: progress.note(str(rung)),
    )

"""From what a user names, a factory or a recipe, to a proven fp32 file."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from exporters import onnx_file, torch_onnx
from exporters.atomic_file import sha256_of
from toolchain.accuracy import running
from toolchain.conversion import export_proof
from toolchain.conversion.proof import Proven
from toolchain.conversion.settling import settle
from toolchain.datasets.dataset import Dataset
from toolchain.errors import BadUsage
from toolchain.inputs import examples, models, samples
from toolchain.inputs.examples import Example
from toolchain.progress import Progress
from toolchain.recipes.recipe import Recipe
from toolchain.training import checkpoint


def export_factory(
    model: str,
    dst: Path,
    *,
    weights: Path | None,
    input_specs: Sequence[str],
    samples_file: Path | None,
    output_names: Sequence[str],
    opset: int,
    progress: Progress,
) -> Proven:
    """Export what the function ``model`` (``file.py:factory``) returns to ``dst``, proven on the inputs given."""
    module, given = models.built(model)
    if weights is not None:
        for note in checkpoint.load_weights(module, weights):
            progress.note(note)
    else:
        progress.warn("No --weights: the model is exported as the factory made it.")
    example = models.example_of(given, input_specs, samples_file, model)
    return _proven(
        module,
        dst,
        example,
        output_names=output_names,
        opset=opset,
        facts={"factory": Path(model).name},
    )


def export_recipe(recipe: Recipe, data: Dataset, weights: Path, dst: Path, *, opset: int) -> Proven:
    """Export a trained recipe to ``dst``, proven on its test split."""
    module = recipe.model()
    checkpoint.load_weights(module, weights)
    test = samples.of_test_split(recipe, data, running.SAMPLES)
    arrays = {name: np.asarray(array) for name, array in test.inputs.items()}
    example = examples.of_arrays(arrays, test.source)
    return _proven(
        module,
        dst,
        example,
        output_names=[recipe.output_name],
        opset=opset,
        facts={"recipe": recipe.name, "weights_sha256": sha256_of(weights)},
    )


def _proven(
    module: torch.nn.Module,
    dst: Path,
    example: Example,
    *,
    output_names: Sequence[str],
    opset: int,
    facts: Mapping[str, str],
) -> Proven:
    """Export to ``dst``, traced and proven on ``example``."""
    reference, found = settle(module, example)
    if output_names and len(output_names) != len(found.outputs):
        raise BadUsage(
            f"forward() returns {len(found.outputs)} tensors ({', '.join(found.outputs)}), "
            f"and {len(output_names)} names are given.",
            "Give --output-name once for each, or leave it out.",
        )
    names = tuple(output_names) or tuple(found.outputs)
    if len({*names, *found.example.axes}) != len(names) + len(found.example.axes):
        raise BadUsage("Two inputs or outputs have one name.", "Give each a name of its own.")
    shown = reference.fed(found.example.at(found.lengths))
    with onnx_file.staged_model(dst) as candidate:
        made = torch_onnx.capture(
            reference.flat(),
            candidate,
            example_inputs={name: torch.from_numpy(array) for name, array in shown.items()},
            axes=found.example.axes,
            output_axes=dict(zip(names, found.outputs.values(), strict=True)),
            opset=opset,
            facts=facts,
        )
        compared, notes = export_proof.proven(candidate, reference, found, made.guards)
    artifact = replace(made.artifact.placed(dst), notes=(*reference.notes, *found.notes, *notes))
    return Proven(artifact=artifact, parity=compared, proven_on=found.example.source)

"""From what a user names, a factory or a recipe, to a proven fp32 file."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from exporters import torch_onnx
from exporters.atomic_file import sha256_of, staged
from toolchain.accuracy import parity
from toolchain.conversion.proof import Proven
from toolchain.datasets.dataset import Dataset
from toolchain.inputs import models, samples
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
    module, examples = models.built(model)
    if weights is not None:
        checkpoint.load_weights(module, weights)
    else:
        progress.warn("No --weights: the model is exported as the factory made it.")
    inputs, proven_on = models.inputs_of(examples, input_specs, samples_file, model)
    return _proven(
        module,
        dst,
        inputs=inputs,
        output_names=output_names or models.output_names(module, inputs),
        opset=opset,
        facts={"factory": Path(model).name},
        proven_on=proven_on,
    )


def export_recipe(recipe: Recipe, data: Dataset, weights: Path, dst: Path, *, opset: int) -> Proven:
    """Export a trained recipe to ``dst``, proven on its test split."""
    module = recipe.model()
    checkpoint.load_weights(module, weights)
    test = samples.of_test_split(recipe, data, parity.SAMPLES)
    return _proven(
        module,
        dst,
        inputs=test.inputs,
        output_names=[recipe.output_name],
        opset=opset,
        facts={"recipe": recipe.name, "weights_sha256": sha256_of(weights)},
        proven_on=test.source,
    )


def _proven(
    module: torch.nn.Module,
    dst: Path,
    *,
    inputs: Mapping[str, npt.NDArray[np.generic]],
    output_names: Sequence[str],
    opset: int,
    facts: Mapping[str, str],
    proven_on: str,
) -> Proven:
    """Export ``module`` to ``dst``; ``inputs`` ``(S, ...)``, in forward()'s order, show its shapes and prove it."""
    examples = {name: torch.from_numpy(np.ascontiguousarray(array[:2])) for name, array in inputs.items()}
    with staged(dst) as candidate:
        artifact = torch_onnx.export(
            module, candidate, example_inputs=examples, output_names=output_names, opset=opset, facts=facts
        )
        compared = parity.check_export(candidate, module, inputs)
    return Proven(artifact=replace(artifact, path=dst), parity=compared, proven_on=proven_on)

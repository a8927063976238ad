"""How a user names a model that PyTorch runs: what makes it, its inputs, the names of its outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exporters.input_tree import Input, leaves, planted
from toolchain.errors import BadUsage
from toolchain.inputs import calls, examples, factories, huggingface, programs, samples, sources, timm_models
from toolchain.inputs.factories import Made


def named(model: str, arguments: Mapping[str, Any]) -> Made:
    """The module that ``model`` stands for: a ``.pt2`` file, a Hugging Face folder, timm's, or what stands in code.

    ``arguments`` make it there.
    """
    if model.endswith(".pt2"):
        if arguments:
            raise BadUsage(f"{model} is a finished program: it takes no --arg.", "Leave --arg out.")
        return programs.load(Path(model))
    if timm_models.is_named(model):
        return timm_models.made(model, arguments)
    if sources.is_code(model):
        return factories.made(model, arguments)
    if huggingface.is_folder(model):
        return huggingface.load(Path(model), arguments)
    raise BadUsage(
        f"There is no recipe '{model}'.",
        f"Choose from {', '.join(sources.RECIPES)}, or name what makes the model as file.py:NAME, package.module:NAME, "
        "timm:NAME, a .pt2 file, or a Hugging Face folder.",
    )


def example_of(made: Made, specs: Sequence[str], data: str | None) -> examples.Example:
    """The inputs on which the export is traced and proven: those of ``data``, of ``specs``, or the model's own.

    ``data`` is an ``.npz`` file, or the calls under ``file.py:calls``.
    """
    if data is not None and sources.is_code(data):
        if specs:
            raise BadUsage("The calls say what the inputs are.", "Leave --input out, or give an .npz file.")
        return calls.of_calls(data, made.module)
    tensors: dict[str, torch.Tensor] = {}
    given = made.examples
    takes = {name: planted(tree, str(name), tensors) for name, tree in (given or {}).items()}
    if data is not None:
        given_arrays = samples.named(data, None, split="test").inputs
        arrays = {name: np.asarray(array) for name, array in given_arrays.items()}
        kept = {name: tree for name, tree in takes.items() if set(leaves(tree)) <= set(arrays)}
        taken = {name for tree in kept.values() for name in leaves(tree)}
        others = {name: Input(name) for name in arrays if name not in taken}
        axes = made.proposed.axes if made.proposed and set(made.proposed.axes) >= set(arrays) else None
        return examples.of_arrays(arrays, data, takes={**kept, **others}, specs=specs, axes=axes)
    if specs and not given:
        return examples.of_specs(specs)
    if tensors:
        arrays = examples.arrays_of(tensors)
        own = examples.of_arrays(arrays, "the model's own examples", takes=takes, specs=specs, axes=made.axes)
        return own if specs else replace(own, follows=made.follows)
    if made.proposed is not None:
        return made.proposed
    raise BadUsage(
        f"It is not known what {made.name} takes.",
        "Add --input NAME=DTYPE[N,...] or --input-data FILE.npz, or return (module, {name: example}) from the factory.",
    )

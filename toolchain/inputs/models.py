"""How a user names a model that PyTorch runs: what makes it, its inputs, the names of its outputs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from exporters.input_tree import planted
from toolchain.errors import BadUsage
from toolchain.inputs import examples, factories, programs, samples, sources
from toolchain.inputs.factories import Made


def named(model: str, arguments: Mapping[str, Any]) -> Made:
    """The module that ``model`` stands for, a ``.pt2`` file or what stands in code; ``arguments`` make it there."""
    if model.endswith(".pt2"):
        if arguments:
            raise BadUsage(f"{model} is a finished program: it takes no --arg.", "Leave --arg out.")
        return programs.load(Path(model))
    if sources.is_code(model):
        return factories.made(model, arguments)
    raise BadUsage(
        f"There is no recipe '{model}'.",
        f"Choose from {', '.join(sources.RECIPES)}, or name what makes the model as file.py:NAME, package.module:NAME, "
        "or a .pt2 file.",
    )


def example_of(made: Made, specs: Sequence[str], file: Path | None) -> examples.Example:
    """The inputs on which the export is traced and proven: ``file``'s, those of ``specs``, or the model's own."""
    tensors: dict[str, torch.Tensor] = {}
    given = made.examples
    takes = {name: planted(tree, str(name), tensors) for name, tree in (given or {}).items()}
    if file is not None:
        given_arrays = samples.named(str(file), None, split="test").inputs
        arrays = {name: np.asarray(array) for name, array in given_arrays.items()}
        return examples.of_arrays(arrays, str(file), takes=takes if set(tensors) == set(arrays) else None, specs=specs)
    if specs and not given:
        return examples.of_specs(specs)
    if tensors:
        arrays = {name: _array(name, tensor) for name, tensor in tensors.items()}
        return examples.of_arrays(arrays, "the model's own examples", takes=takes, specs=specs, axes=made.axes)
    raise BadUsage(
        f"It is not known what {made.name} takes.",
        "Add --input NAME=DTYPE[N,...] or --samples FILE.npz, or return (module, {name: example}) from the factory.",
    )


def _array(name: str, tensor: torch.Tensor) -> npt.NDArray[np.generic]:
    try:
        array: npt.NDArray[np.generic] = tensor.detach().cpu().numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:  # bfloat16, sparse, quantized, without values
        kind = str(tensor.dtype).removeprefix("torch.")
        raise BadUsage(
            f"The example '{name}' is a {kind} tensor, which ONNX Runtime cannot be fed.",
            "Give a dense float32 one.",
        ) from error
    return array

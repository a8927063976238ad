"""How a user names a model that is code: the function that makes it, its inputs, the names of its outputs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from exporters.errors import in_words
from exporters.torch_module import planted
from toolchain.errors import BadUsage
from toolchain.inputs import examples, samples, sources

_SEED = 0


def built(name: str) -> tuple[torch.nn.Module, Mapping[str, Any] | None]:
    """Call the factory; it returns a module, or (module, {name: example tensor}). Weights that it draws are seeded."""
    if ":" not in name:
        raise BadUsage(
            f"There is no recipe '{name}'.",
            f"Choose from {', '.join(sources.RECIPES)}, or name a function that makes the model as file.py:factory.",
        )
    factory = sources.attribute_named(name)
    if not callable(factory):
        raise BadUsage(
            f"{name} is a {type(factory).__name__}, not a function.", "Name a function that returns a module."
        )
    torch.manual_seed(_SEED)
    try:
        made: Any = factory()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise BadUsage(f"{name}() raised {in_words(error)}.", "Make it run without arguments.") from error
    module, examples = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, torch.nn.Module):
        raise BadUsage(f"{name}() returned a {type(module).__name__}.", "Return a torch.nn.Module.")
    if examples is not None and not isinstance(examples, Mapping):
        raise BadUsage(f"The examples of {name}() are a {type(examples).__name__}.", "Return (module, {name: tensor}).")
    return module, examples


def example_of(
    given: Mapping[str, Any] | None, specs: Sequence[str], file: Path | None, model: str
) -> examples.Example:
    """The inputs on which the export is traced and proven: ``file``'s, those of ``specs``, or the factory's own."""
    tensors: dict[str, torch.Tensor] = {}
    takes = {name: planted(tree, str(name), tensors) for name, tree in (given or {}).items()}
    if file is not None:
        given_arrays = samples.named(str(file), None, split="test").inputs
        arrays = {name: np.asarray(array) for name, array in given_arrays.items()}
        return examples.of_arrays(arrays, str(file), takes=takes if set(tensors) == set(arrays) else None, specs=specs)
    if specs and not given:
        return examples.of_specs(specs)
    if tensors:
        arrays = {name: _array(name, tensor) for name, tensor in tensors.items()}
        return examples.of_arrays(arrays, "the factory's examples", takes=takes, specs=specs)
    raise BadUsage(
        f"It is not known what {model} takes.",
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

"""How a user names a model that is code: the function that makes it, its inputs, the names of its outputs."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from runtimes.base import TensorSpec
from toolchain.errors import BadUsage
from toolchain.inputs import samples, sources

_SPEC = re.compile(r"(?P<name>[\w.]+)=(?P<dtype>\w+)\[(?P<shape>\d+(,\d+)*)\]")
_MADE_PROOF_SAMPLES = 8


def built(name: str) -> tuple[torch.nn.Module, Mapping[str, torch.Tensor] | None]:
    """Call the factory; it returns a module, or (module, {name: example tensor})."""
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
    try:
        made: Any = factory()
    except Exception as error:
        raise BadUsage(f"{name}() raised {type(error).__name__}: {error}.", "Make it run without arguments.") from error
    module, examples = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, torch.nn.Module):
        raise BadUsage(f"{name}() returned a {type(module).__name__}.", "Return a torch.nn.Module.")
    if examples is not None and not isinstance(examples, Mapping):
        raise BadUsage(f"The examples of {name}() are a {type(examples).__name__}.", "Return (module, {name: tensor}).")
    return module, examples


def inputs_of(
    examples: Mapping[str, torch.Tensor] | None, specs: Sequence[str], file: Path | None, model: str
) -> tuple[dict[str, npt.NDArray[np.generic]], str]:
    """The arrays on which the export is traced and proven, and what to call them."""
    if file is not None:
        given = samples.named(str(file), None, split="test")
        return dict(given.inputs), str(file)
    if specs:
        parsed = [_parse(spec) for spec in specs]
        return dict(samples.random_for(parsed, _MADE_PROOF_SAMPLES).inputs), "seeded random values"
    if examples:
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in examples.items()}
        repeats = -(-_MADE_PROOF_SAMPLES // len(next(iter(arrays.values()))))
        return {name: np.concatenate([array] * repeats) for name, array in arrays.items()}, "the factory's examples"
    raise BadUsage(
        f"It is not known what {model} takes.",
        "Add --input NAME=DTYPE[N,...] or --samples FILE.npz, or return (module, {name: example}) from the factory.",
    )


def _parse(spec: str) -> TensorSpec:
    match = _SPEC.fullmatch(spec.replace(" ", ""))
    try:
        if match is None:
            raise TypeError(spec)
        dtype = np.dtype(match["dtype"]).name
    except TypeError as error:
        raise BadUsage(f"--input '{spec}' cannot be read.", "Write it as image=float32[1,3,224,224].") from error
    shape = [int(length) for length in match["shape"].split(",")]
    if min(shape) < 1:
        raise BadUsage(f"--input '{spec}' has an axis of length 0.", "Every axis must be at least 1.")
    return TensorSpec(match["name"], dtype, ("batch", *shape[1:]))


def output_names(module: torch.nn.Module, inputs: Mapping[str, npt.NDArray[np.generic]]) -> list[str]:
    """``output``, or ``output0``, ``output1``, ... for a module that returns several tensors."""
    try:
        with torch.inference_mode():
            result = module.eval()(*(torch.from_numpy(array[:2]) for array in inputs.values()))
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadUsage(
            f"The model does not run on these inputs: {reason}.", "Check their names, order and shapes."
        ) from error
    results = result if isinstance(result, (tuple, list)) else (result,)
    if not all(isinstance(value, torch.Tensor) for value in results):
        raise BadUsage(f"The model returns a {type(result).__name__}.", "Return a tensor, or a tuple of tensors.")
    count = len(results)
    return ["output"] if count == 1 else [f"output{index}" for index in range(count)]

"""Tensors in dicts, lists and tuples: what forward() returns and a loss takes."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch


def mapped(tree: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """``tree`` with every tensor changed; what is neither a tensor nor holds some stays."""
    if isinstance(tree, torch.Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        values = {key: mapped(value, change) for key, value in tree.items()}
        try:
            return type(tree)(values)  # type: ignore[call-arg]  # an OrderedDict, a ModelOutput
        except TypeError:
            return values
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*[mapped(value, change) for value in tree])
    if isinstance(tree, (list, tuple)):
        return type(tree)(mapped(value, change) for value in tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = {field.name: mapped(getattr(tree, field.name), change) for field in dataclasses.fields(tree)}
        return dataclasses.replace(tree, **fields)
    return tree


def of_arrays(tree: Any) -> Any:
    """``tree`` with tensors for the arrays in it."""
    if isinstance(tree, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(tree))
    if isinstance(tree, Mapping):
        return {key: of_arrays(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(of_arrays(value) for value in tree)
    return tree


def as_targets(tree: Any) -> Any:
    """As a loss takes them: whole numbers and truth values as int64, floats as float32."""

    def change(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.float() if tensor.is_floating_point() else tensor.long()

    return mapped(tree, change)


def as_outputs(tree: Any) -> Any:
    """As a loss takes them: floats in full precision."""
    return mapped(tree, lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)

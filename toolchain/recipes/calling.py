"""How a recipe's model is called: its inputs by name, in the order and by the names that forward() has."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from exporters.input_tree import Input, filled
from exporters.torch_module import bound

_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Call:
    """Of a ``module`` whose inputs have these names; those that are forward()'s own are bound by name, others in order.

    As many as can be are given by position. Raises BadOption where they fit neither way.
    """

    def __init__(self, module: torch.nn.Module, names: Iterable[str]) -> None:
        self._positional, self._keywords = bound(module, {name: Input(name) for name in names})
        for place, parameter in enumerate(inspect.signature(module.forward).parameters.values()):
            if place < len(self._positional):
                continue
            if parameter.kind not in _BY_PLACE or parameter.name not in self._keywords:
                break
            self._positional.append(self._keywords.pop(parameter.name))

    @property
    def order(self) -> list[str] | None:
        """The names in the order in which forward() takes them; None where that is not by position, one each."""
        trees = self._positional if not self._keywords else []
        names = [tree.name for tree in trees if isinstance(tree, Input)]
        return names if trees and len(names) == len(trees) else None

    def __call__(self, forward: Callable[..., Any], inputs: Mapping[str, torch.Tensor]) -> Any:
        """What ``forward``, the module or another form of it, makes of ``inputs``."""
        keywords = {name: filled(tree, inputs) for name, tree in self._keywords.items()}
        return forward(*[filled(tree, inputs) for tree in self._positional], **keywords)

"""The parameters that an optimizer gets: all of them, or in the recipe's groups, each once."""

from collections.abc import Iterable
from typing import Any

import torch

from toolchain.errors import BadUsage
from toolchain.recipes.recipe import Recipe, part

_SHOWN = 5


def of(recipe: Recipe, model: torch.nn.Module, lr: float) -> Iterable[Any]:
    """What the recipe's optimizer takes; raises BadUsage for groups that miss or repeat a parameter."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise BadUsage("The recipe's model has no parameter to train.", "Leave requires_grad on for some.")
    if recipe.parameter_groups is None:
        return model.parameters()
    with part("parameter_groups"):
        groups = [dict(group) for group in recipe.parameter_groups(model, lr)]
        for group in groups:
            given = group["params"]
            group["params"] = [given] if isinstance(given, torch.Tensor) else list(given)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    given = [parameter for group in groups for parameter in group["params"]]
    if strange := [parameter for parameter in given if id(parameter) not in names]:
        raise BadUsage(
            f"The recipe's parameter_groups have {len(strange)} of no parameter of the model.",
            "Take them of the model that it is given.",
        )
    found = [names[id(parameter)] for parameter in given]
    if repeated := sorted({name for name in found if found.count(name) > 1}):
        raise BadUsage(f"The recipe's parameter_groups repeat {_listed(repeated)}.", "Name each once.")
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if missing := [name for name in trained if name not in set(found)]:
        raise BadUsage(
            f"The recipe's parameter_groups leave out {_listed(missing)}.",
            "Put every parameter into a group, or call requires_grad_(False) on what is to stay as it is.",
        )
    return groups


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"

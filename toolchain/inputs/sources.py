"""How a user names what is code: a recipe that comes with nnx, or ``file.py:NAME`` or ``package.module:NAME``."""

import hashlib
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters.atomic_file import sha256_of
from exporters.errors import in_words
from toolchain.errors import BadUsage
from toolchain.user_code import loading

if TYPE_CHECKING:
    from toolchain.recipes.recipe import Recipe

RECIPES = ("digits", "cifar10", "sst2")


def recipe_named(name: str) -> "Recipe":
    """The recipe ``name`` stands for: one of RECIPES, or one in code of theirs. Raises BadUsage otherwise."""
    from toolchain.recipes.recipe import Recipe

    if name in RECIPES:
        found = importlib.import_module(f"toolchain.recipes.{name}").recipe
    elif is_code(name):
        found = attribute_named(name)
    else:
        raise BadUsage(
            f"There is no recipe '{name}'.",
            f"Choose from {', '.join(RECIPES)}, or name your own as file.py:recipe.",
        )
    if not isinstance(found, Recipe):
        raise BadUsage(
            f"{name} is a {type(found).__name__}, not a Recipe.",
            "Copy one of toolchain/recipes/ to start from.",
        )
    return found


def trusted(name: str, folder: Path, recipes: Sequence[str]) -> "Recipe":
    """The recipe that a folder's manifest names; BadUsage for code that nobody but the folder asks to run."""
    if name not in RECIPES and name not in map(absolute, recipes):
        raise BadUsage(
            f"{folder} is made by code of its own, {name or 'which it does not name'}; a folder is not obeyed in that.",
            f"If you trust that file, add --recipe {name or 'file.py:recipe'}.",
        )
    return recipe_named(name)


def is_recipe(name: str) -> bool:
    """Whether ``name`` stands for a recipe. Loads the file of a ``file.py:name``."""
    if name in RECIPES:
        return True
    if not is_code(name):
        return False
    from toolchain.recipes.recipe import Recipe  # with PyTorch, which a file does without

    return isinstance(attribute_named(name), Recipe)


def is_code(name: str) -> bool:
    """Whether ``name`` has the form ``file.py:NAME`` or ``package.module:NAME``; a Windows path has a colon too, and
    what timm calls ``NAME`` is none of the names in its package.
    """
    place, colon, attribute = name.rpartition(":")
    words = [*attribute.split("."), *([] if place.endswith(".py") else place.split("."))]
    return bool(colon) and place != "timm" and all(word.isidentifier() for word in words)


def attribute_named(name: str) -> Any:
    """What ``file.py:NAME`` or ``package.module:NAME`` stands for; NAME may be dotted, such as Net.small.

    BadUsage when the file or the name is not there, or loading it raises.
    """
    place, _, attribute = name.rpartition(":")
    found: Any = loading.loaded(place)
    for word in attribute.split("."):
        try:
            there = hasattr(found, word)
        except Exception as error:
            raise BadUsage(f"{place} has '{word}', which raised {in_words(error)}.", "Look at it in Python.") from error
        if not there:
            public = [known for known in vars(found) if not known.startswith("_")] if hasattr(found, "__dict__") else []
            raise BadUsage(f"{place} has no '{attribute}'.", f"It has {', '.join(public) or 'no names at all'}.")
        found = getattr(found, word)
    return found


def code_digest(name: str) -> str:
    """A digest of the file in which ``name`` is written, and of what it imports from its own project.

    Changed code means another model.
    """
    if name in RECIPES:
        return sha256_of(Path(str(importlib.import_module(f"toolchain.recipes.{name}").__file__)))
    files = loading.files(name.rpartition(":")[0])
    return hashlib.sha256("".join(sha256_of(path) for path in files).encode()).hexdigest()


def absolute(name: str) -> str:
    """``name`` so that it means the same from another folder."""
    place, colon, attribute = name.rpartition(":")
    return f"{loading.absolute(place)}:{attribute}" if colon and name not in RECIPES else name

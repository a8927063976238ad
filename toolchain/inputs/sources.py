"""How a user names a model: a recipe that comes with nnx, or ``file.py:name`` in a file of their own."""

import functools
import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from exporters.atomic_file import sha256_of
from exporters.errors import in_words
from toolchain.errors import BadUsage

if TYPE_CHECKING:
    from toolchain.recipes.recipe import Recipe

RECIPES = ("digits", "cifar10", "sst2")


def recipe_named(name: str) -> "Recipe":
    """The recipe ``name`` stands for: one of RECIPES, or ``file.py:attribute``. Raises BadUsage otherwise."""
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


def is_recipe(name: str) -> bool:
    """Whether ``name`` stands for a recipe. Loads the file of a ``file.py:name``."""
    from toolchain.recipes.recipe import Recipe

    return name in RECIPES or (is_code(name) and isinstance(attribute_named(name), Recipe))


def is_code(name: str) -> bool:
    """Whether ``name`` has the form ``file.py:attribute``; a Windows path has a colon too."""
    return name.rpartition(":")[0].endswith(".py")


def attribute_named(name: str) -> Any:
    """What ``file.py:attribute`` stands for; BadUsage when the file or the attribute is not there, or it raises."""
    file, _, attribute = name.rpartition(":")
    module, _ = _load_file(Path(file).resolve())
    if not hasattr(module, attribute):
        public = [known for known in vars(module) if not known.startswith("_")]
        raise BadUsage(f"{file} has no '{attribute}'.", f"It has {', '.join(public) or 'no names at all'}.")
    return getattr(module, attribute)


def code_digest(name: str) -> str:
    """A digest of the file in which ``name`` is written, and of what it imports from its own folder.

    Changed code means another model.
    """
    if name in RECIPES:
        return sha256_of(Path(str(importlib.import_module(f"toolchain.recipes.{name}").__file__)))
    _, files = _load_file(Path(name.rpartition(":")[0]).resolve())
    return hashlib.sha256("".join(sha256_of(path) for path in files).encode()).hexdigest()


def absolute(name: str) -> str:
    """``name`` so that it means the same from another folder."""
    file, colon, attribute = name.rpartition(":")
    return f"{Path(file).resolve()}:{attribute}" if colon and name not in RECIPES else name


@functools.cache
def _load_file(path: Path) -> tuple[ModuleType, tuple[Path, ...]]:
    """The module in ``path``, and the files that it is made of: itself and what it imports from its own folder."""
    if not path.is_file():
        raise BadUsage(f"There is no file {path}.", "Name a Python file and what it holds, as file.py:name.")
    module_name = f"nnx_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise BadUsage(f"{path} is not a Python file.", "Its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    # torch.export and torch.compile look a class's module up by name
    sys.modules[module_name] = module
    sys.path.insert(0, str(path.parent))
    before = set(sys.modules)
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # argparse at import ends in a SystemExit
        what = f"{path} could not be loaded: {in_words(error)}."
        raise BadUsage(what, "Run it with python first; what is for scripts belongs below __main__.") from error
    finally:
        sys.path.remove(str(path.parent))
    siblings = {_file_of(name, path.parent) for name in set(sys.modules) - before}
    return module, tuple(sorted({path, *(sibling for sibling in siblings if sibling)}))


def _file_of(module_name: str, folder: Path) -> Path | None:
    """Where a loaded module lies, if that is below ``folder`` and neither an installed package nor part of nnx."""
    file = getattr(sys.modules[module_name], "__file__", None)
    if not file or module_name.partition(".")[0] in ("toolchain", "exporters", "runtimes"):
        return None
    path = Path(file).resolve()
    return path if path.is_file() and path.is_relative_to(folder) and "site-packages" not in path.parts else None

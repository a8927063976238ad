"""A module as Python that builds one like it: its attributes, its layers, weights of the same shapes and ranges.

Nothing of how the user made it is needed: no arguments of a constructor, no file of weights.
"""

import ast
import enum
import functools
import sys
import types
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from toolchain.bisection.sources import NotDescribable, is_theirs

_BARE = frozenset(vars(torch.nn.Module()))
_MOST_VALUES = 64
"""Of whole numbers that are written down: they are places, counts and sizes more often than weights."""
_PLAIN = (bool, int, str, bytes, type(None), type(Ellipsis), range, torch.Size, torch.dtype)


class Names:
    """Classes and functions that the text names: the user's in ``theirs``, what to import for others in ``imports``."""

    def __init__(self) -> None:
        self.theirs: dict[str, Any] = {}
        self.imports: dict[str, None] = {}

    def of(self, thing: Any) -> str:
        """How ``thing``, a class or function, is called in the text. Raises NotDescribable for one without a name."""
        module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
        if not module and isinstance(thing, types.BuiltinFunctionType):
            module = "torch"
        if not module or not name or "<" in name:
            raise NotDescribable(f"{name or thing!r} has no name at the top of a file")
        if is_theirs(module):
            top = name.partition(".")[0]
            if self.theirs.setdefault(top, thing).__module__ != module:
                raise NotDescribable(f"two files have a '{top}'")
            return str(name)
        for short in ("torch.nn", "torch.nn.functional", "torch", module):
            found: Any = _looked_up(short, name)
            if found is thing:
                self.imports[short] = None
                return f"{short}.{name}" if short != "builtins" else str(name)
        raise NotDescribable(f"{name} of {module} is not found there by its name")


def _looked_up(module: str, name: str) -> Any:
    found: Any = sys.modules.get(module)
    for word in name.split("."):
        found = getattr(found, word, None)
    return found


def of_module(module: torch.nn.Module, names: Names, indent: int = 0) -> str:
    """An expression that builds ``module``, with ``build``, ``filled`` and ``tensor`` of :mod:`.repro`'s text."""
    if (short := _by_repr(module, indent)) is not None:
        return short
    kind = names.of(type(module))
    inner = {name: of_module(child, names, indent + 8) for name, child in module._modules.items() if child is not None}
    absent = [name for name, child in module._modules.items() if child is None]
    values = {
        name: of_value(value, names, f"{kind}.{name}") for name, value in vars(module).items() if name not in _BARE
    }
    values |= dict.fromkeys(absent, "None")
    parameters = {name: _tensor(value) for name, value in module._parameters.items()}
    buffers = {name: _tensor(value) for name, value in module._buffers.items()}
    groups = {"": values, "parameters": parameters, "buffers": buffers, "modules": inner}
    space = " " * (indent + 4)
    lines = [f"{space}{kind},"]
    for word, group in groups.items():
        if group or not word:
            entries = "".join(f"{space}    {name!r}: {text},\n" for name, text in group.items())
            body = "{\n" + entries + space + "}" if entries else "{}"
            lines.append(f"{space}{word + '=' if word else ''}{body},")
    return "build(\n" + "\n".join(lines) + "\n" + " " * indent + ")"


def of_value(value: Any, names: Names, what: str, way: tuple[int, ...] = ()) -> str:
    """An expression for an attribute, or a constant that forward() is given; ``way``: the ids of what holds it.

    Raises NotDescribable for what cannot be written so, something that holds itself among it.
    """
    if id(value) in way:
        raise NotDescribable(f"{what} holds a {type(value).__name__} that leads back to itself")
    inside = functools.partial(of_value, names=names, what=what, way=(*way, id(value)))
    if isinstance(value, enum.Enum):
        return f"{names.of(type(value))}.{value.name}"
    if isinstance(value, (np.bool_, np.integer)):
        return repr(value.item())
    if isinstance(value, (float, np.floating)):  # numpy's own too, whose repr is a call of np
        value = float(value)
        return repr(value) if value == value and abs(value) != float("inf") else f"float('{value}')"
    if type(value) in _PLAIN:
        return repr(value)
    if isinstance(value, torch.device):
        return f"torch.device({str(value)!r})"
    if isinstance(value, slice):
        return f"slice({inside(value.start)}, {inside(value.stop)}, {inside(value.step)})"
    if isinstance(value, torch.Tensor):
        return _tensor(value)
    if type(value) in (list, tuple, set, frozenset):
        inner = ", ".join(inside(each) for each in value)
        if isinstance(value, tuple):
            return f"({inner}{',' if len(value) == 1 else ''})"
        return f"[{inner}]" if isinstance(value, list) else f"{type(value).__name__}([{inner}])"
    if type(value) in (dict, OrderedDict):
        pairs = (f"{inside(key)}: {inside(each)}" for key, each in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        return names.of(value)
    if isinstance(value, torch.nn.Module):
        raise NotDescribable(f"{what} holds a module aside")
    if isinstance(getattr(value, "__dict__", None), Mapping) and not isinstance(
        value, (types.ModuleType, types.MethodType)
    ):
        pairs = (f"{key!r}: {inside(each)}" for key, each in vars(value).items())
        return f"holding({names.of(type(value))}, {{{', '.join(pairs)}}})"
    raise NotDescribable(f"{what} is a {type(value).__name__}")


def _by_repr(module: torch.nn.Module, indent: int) -> str | None:
    """The constructor's call that a layer of torch shows itself as, where it makes the same layer, with its ranges."""
    kind, text = type(module), repr(module)
    if getattr(torch.nn, kind.__name__, None) is not kind or "\n" in text:
        return None
    try:
        positional, keywords = _arguments(text, kind.__name__)
    except (SyntaxError, ValueError):  # not all of them show themselves as a call
        return None
    try:
        made = kind(*positional, **keywords)
    except Exception:  # noqa: BLE001 - what a layer shows need not be what its constructor takes
        return None
    if _shown(made) != _shown(module):
        return None
    new, space = made.state_dict(), " " * (indent + 4)
    state = {name: _tensor(value) for name, value in module.state_dict().items() if not torch.equal(value, new[name])}
    values = ", ".join(f"{name!r}: {value}" for name, value in state.items())
    return f"filled(\n{space}torch.nn.{text},\n{space}{{{values}}},\n{' ' * indent})" if state else f"torch.nn.{text}"


def _arguments(text: str, name: str) -> tuple[list[Any], dict[str, Any]]:
    """Of a call of ``name`` with literals alone, these. Raises SyntaxError or ValueError for any other text."""
    call = ast.parse(text, mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id != name:
        raise ValueError(f"{text} is no call of {name}")
    keywords = {each.arg: ast.literal_eval(each.value) for each in call.keywords if each.arg is not None}
    if len(keywords) != len(call.keywords):
        raise ValueError(f"{text} does not name all its arguments")
    return [ast.literal_eval(each) for each in call.args], keywords


def _shown(module: torch.nn.Module) -> Any:
    """What two layers that are alike have in common."""
    values = {name: repr(value) for name, value in vars(module).items() if name not in _BARE}
    return values, {name: (value.shape, value.dtype) for name, value in module.state_dict().items()}


def _tensor(value: torch.Tensor | None) -> str:
    """An expression for a tensor of this shape, kind and range."""
    if value is None:
        return "None"
    value = value.detach()
    kind = str(value.dtype)
    if value.is_complex() or value.layout is not torch.strided:
        raise NotDescribable(f"there is a {kind} tensor")
    if not value.is_floating_point() and value.numel() <= _MOST_VALUES:
        return f"torch.tensor({value.tolist()}, dtype={kind})"
    low, high = _range(value)
    return f"tensor({tuple(value.shape)}, {kind}, {low}, {high})"


def _range(value: torch.Tensor) -> tuple[float, float]:
    numbers = value[torch.isfinite(value)] if value.is_floating_point() else value
    if not numbers.numel():
        return 0, 1
    low, high = numbers.min().item(), numbers.max().item()
    return (float(f"{low:.4g}"), float(f"{high:.4g}")) if value.is_floating_point() else (int(low), int(high))

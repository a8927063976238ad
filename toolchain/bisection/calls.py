"""Which modules a model calls when it runs, what reaches them, and in which of them it stops."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from exporters.errors import BadOption
from exporters.input_tree import Tree, planted
from exporters.torch_module import Flat
from toolchain.conversion.reference import Arrays, DoesNotRun, Reference, called
from toolchain.errors import BadUsage
from toolchain.inputs import calls as given_calls
from toolchain.inputs.examples import arrays_of


@dataclass(frozen=True)
class Place:
    """The module at ``path`` in a model, empty for the model itself, at its ``call``-th call in a run.

    ``inside`` are the modules that it calls, in order: each once for every way in which it is called.
    """

    path: str
    call: int
    inside: list["Place"] = field(default_factory=list)


@dataclass(frozen=True)
class Reached:
    """What reached a module: ``arrays`` by their names, and how its forward()'s arguments are made of them."""

    takes: Mapping[str, Tree]
    arrays: Arrays


def tree(reference: Reference, arrays: Arrays) -> Place:
    """The model as it calls its modules on ``arrays``."""
    flat = reference.flat()
    counts: dict[str, int] = {}
    ways: set[tuple[str, str]] = set()
    root = Place("", 0)
    active = [root]

    def enter(path: str, module: torch.nn.Module, positional: Any, keywords: Any) -> None:
        number = counts[path] = counts.get(path, -1) + 1
        place = root if not path else Place(path, number)
        if path and (path, way := _way(module, positional, keywords)) not in ways:
            ways.add((path, way))
            active[-1].inside.append(place)
        active.append(place)

    with _entered(flat, enter, lambda: active.pop()):
        called(flat, arrays)
    return root


def reached(reference: Reference, arrays: Arrays, place: Place) -> Reached:
    """What reaches the module at ``place`` when the model runs on ``arrays``.

    Raises BadUsage or BadOption where that is no tensors, numbers and containers of them.
    """
    flat = reference.flat()
    found: list[dict[str, Any]] = []
    count = 0

    def enter(path: str, module: torch.nn.Module, positional: Any, keywords: Any) -> None:
        nonlocal count
        if path == place.path:
            if count == place.call:  # copies: the model may change them in place
                found.append(torch.utils._pytree.tree_map(_copied, _keywords(module, positional, keywords)))
            count += 1

    with _entered(flat, enter, lambda: None):
        called(flat, arrays)
    if not found:
        raise DoesNotRun(f"'{place.path}' is not called at every size.", "Look at the module above it.")
    tensors: dict[str, torch.Tensor] = {}
    takes = {name: planted(value, name, tensors) for name, value in found[0].items()}
    if not tensors:
        raise BadUsage(f"'{place.path}' takes no tensor.", "Look at the module above it.")
    return Reached(takes, arrays_of(tensors))


def stopped(reference: Reference, arrays: Arrays) -> tuple[str, DoesNotRun] | None:
    """The path of the innermost module that does not run on ``arrays``, and what it raised; None where all do."""
    flat = reference.flat()
    active: list[str] = []
    with _entered(flat, lambda path, *_: active.append(path), lambda: active.pop()):
        try:
            called(flat, arrays)
        except DoesNotRun as error:
            return (active or [""])[-1], error
    return None


@contextmanager
def _entered(flat: Flat, enter: Callable[..., None], leave: Callable[[], object]) -> Iterator[None]:
    """Call ``enter`` with path, module and arguments before each module runs, ``leave`` after it did."""

    def left(*_: Any) -> None:
        leave()

    with ExitStack() as hooks:
        for path, module in flat.module.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            hooks.enter_context(
                module.register_forward_pre_hook(
                    lambda module, positional, keywords, path=path: enter(path, module, positional, keywords),
                    with_kwargs=True,
                )
            )
            hooks.enter_context(module.register_forward_hook(left))
        yield


def _keywords(module: torch.nn.Module, positional: Any, keywords: Any) -> dict[str, Any]:
    return given_calls.keywords((tuple(positional), keywords), module, "the call")


def _way(module: torch.nn.Module, positional: Any, keywords: Any) -> str:
    """What distinguishes one way of calling a module from another: which arguments, of which kinds."""
    tensors: dict[str, torch.Tensor] = {}
    try:
        takes = {name: planted(value, name, tensors) for name, value in _keywords(module, positional, keywords).items()}
    except (BadOption, BadUsage):
        return ""
    return repr((takes, [(name, value.dtype, value.ndim) for name, value in tensors.items()]))


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value

"""What stands in code under a user's name, made into a module: a function, a class, a method, or a module itself."""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from exporters.errors import in_words
from exporters.torch_module import unwrapped
from toolchain.errors import BadUsage
from toolchain.inputs import sources
from toolchain.inputs.calls import keywords
from toolchain.inputs.examples import Example
from toolchain.inputs.json_values import value_of

_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Made:
    """A module that a user named as ``name``, and the ``examples`` of its inputs that it brings, by their names.

    ``axes`` says which axes of the examples are dynamic where that is known, ``follows`` whose lengths follow from
    others' and how, ``proposed`` the inputs to take where the user names none, ``facts`` what the file should tell of
    it, ``is_untrained`` whether its weights may be those that it was initialized with, ``notes`` what is to be said of
    it. ``surroundings`` is what to run it in.
    """

    name: str
    module: torch.nn.Module
    examples: Mapping[str, Any] | None = None
    axes: Mapping[str, Mapping[int, str]] | None = None
    follows: Mapping[str, Callable[[Mapping[str, int]], int]] = field(default_factory=dict)
    proposed: Example | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    is_untrained: bool = True
    notes: tuple[str, ...] = ()
    surroundings: Callable[[], AbstractContextManager[None]] = nullcontext


def made(name: str, arguments: Mapping[str, Any]) -> Made:
    """What ``name`` stands for, called with ``arguments`` where it can be; weights that it draws are seeded.

    It is, or returns, a module, or (module, examples): a dict by the names of forward(), a tuple by its places,
    ``(tuple, dict)`` of both, or one tensor.
    """
    found, shown = sources.attribute_named(name), name
    if isinstance(found, (torch.nn.Module, tuple)) or not callable(found):
        if arguments and isinstance(found, (torch.nn.Module, tuple)):
            raise BadUsage(
                f"{name} is a finished module: it takes no --arg.", "Name what makes it, or leave --arg out."
            )
    else:
        found = _called(name, found, arguments)
        shown = f"{name}()"
    module, examples = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if not isinstance(module, torch.nn.Module):
        raise BadUsage(
            f"{shown} is a {type(module).__name__}, not a module.",
            "Name a torch.nn.Module, a class of them, or a function that returns one.",
        )
    if examples is not None and not isinstance(examples, Mapping):
        examples = keywords(examples, unwrapped(module), f"What {shown} gives as examples")
    facts = {"arguments": json.dumps(arguments, sort_keys=True)} if arguments else {}
    return Made(name=name, module=module, examples=examples, facts=facts)


def argument(text: str) -> tuple[str, Any]:
    """``--arg NAME=VALUE``: a value in JSON, or a word."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise BadUsage(f"--arg '{text}' cannot be read.", "Write it as width=64 or pretrained=false.")
    return name, value_of(f"--arg '{text}'", value)


def arguments(texts: Sequence[str]) -> dict[str, Any]:
    """What ``--arg``, given again and again, says."""
    pairs = [argument(text) for text in texts]
    if len({name for name, _ in pairs}) != len(pairs):
        raise BadUsage("An --arg is given twice.", "Give each name once.")
    return dict(pairs)


def _called(name: str, factory: Any, arguments: Mapping[str, Any]) -> Any:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # written in C
        signature = None
    if signature is not None:
        _require_fit(name, signature, arguments)
    torch.manual_seed(_SEED)
    try:
        return factory(**arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise BadUsage(
            f"{name}() raised {in_words(error)}.", "Call it in Python first, with the same --arg."
        ) from error


def _require_fit(name: str, signature: inspect.Signature, arguments: Mapping[str, Any]) -> None:
    taken = {
        each.name: each
        for each in signature.parameters.values()
        if each.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    }
    open_ended = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in signature.parameters.values())
    takes = f"{name}() takes {', '.join(taken) or 'nothing'}"
    if (strange := [given for given in arguments if given not in taken]) and not open_ended:
        raise BadUsage(f"{takes}, and no {strange[0]}.", "Mend the --arg.")
    missing = [each.name for each in taken.values() if each.default is each.empty and each.name not in arguments]
    if missing:
        raise BadUsage(f"{takes}, and needs {', '.join(missing)}.", f"Add --arg {missing[0]}=VALUE.")

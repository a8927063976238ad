"""Options that belong together reach a command as one value: a frozen dataclass, each field of which is an option."""

import functools
from collections.abc import Callable
from dataclasses import field, fields
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
_OPTION = "option"


def option(*flags: str, **settings: Any) -> Any:
    """A field of a group: what :func:`click.option` takes; the parameter is called as the field is."""
    return field(metadata={_OPTION: (flags, settings)})


def group(name: str, kind: type[Any]) -> Callable[[Command], Command]:
    """A decorator that adds the options of ``kind`` to a command, which is handed an instance as ``name``."""
    names = [each.name for each in fields(kind)]

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def gather(*arguments: Any, **given: Any) -> Any:
            chosen = {each: given.pop(each) for each in names}
            return function(*arguments, **given, **{name: kind(**chosen)})

        for each in reversed(fields(kind)):
            flags, settings = each.metadata[_OPTION]
            gather = click.option(*flags, each.name, **settings)(gather)
        return gather  # type: ignore[return-value]

    return decorate

"""Which parts of a stored sample a recipe takes: one, or several in a dict by name."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Wanted = str | Mapping[str, str]
"""Of a tar an extension, of a table a column."""


def names(wanted: Wanted | None) -> Iterable[str]:
    """All of them."""
    if wanted is None:
        return ()
    return wanted.values() if isinstance(wanted, Mapping) else (wanted,)


def filled(wanted: Wanted, value: Callable[[str], Any]) -> Any:
    """With the value of each in its place."""
    return {name: value(each) for name, each in wanted.items()} if isinstance(wanted, Mapping) else value(wanted)

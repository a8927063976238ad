"""Something of another library that is another while a block runs: no option of its own leads there.

It is another for the whole process: one export at a time, no threads.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """In the block the attribute ``name`` of ``owner``, a module or a class, is ``value``."""
    before = vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def entries_replaced(table: dict[Any, Any], entries: Mapping[Any, Any]) -> Iterator[None]:
    """In the block ``table`` has these ``entries``."""
    before = {key: table[key] for key in entries if key in table}
    table.update(entries)
    try:
        yield
    finally:
        for key in entries:
            if key in before:
                table[key] = before[key]
            else:
                table.pop(key, None)

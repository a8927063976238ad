"""What is wrong with a package, one :class:`Fault` each, and how two lists of checksums differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Unfit: it is as it was sent, and not what a package holds."""

    CHANGED = "changed"
    MISSING = "missing"
    EXTRA = "extra"
    UNSIGNED = "unsigned"
    WRONGLY_SIGNED = "wrongly signed"
    UNFIT = "unfit"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """``why`` is a sentence without its end."""

    kind: Kind
    file: str
    why: str


def differences(listed: Mapping[str, str], found: Mapping[str, str], *, by: str) -> Iterator[Fault]:
    """Files that are not those that were ``listed``, name -> hex SHA-256, in the file ``by``."""
    for name in sorted({*listed, *found}):
        if name not in found:
            yield Fault(kind=Kind.MISSING, file=name, why=f"{by} lists it, and it is not there")
        elif name not in listed:
            yield Fault(kind=Kind.EXTRA, file=name, why=f"{by} does not list it")
        elif listed[name] != found[name]:
            yield Fault(kind=Kind.CHANGED, file=name, why=f"it is not what {by} says")

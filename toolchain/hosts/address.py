"""Where another machine is: as ``nnx push`` has it, with a folder or without."""

import re
from dataclasses import dataclass

from toolchain.bench.record import LOCAL, shown_host
from toolchain.errors import BadUsage
from toolchain.shipping import device

_HOST = re.compile(r"(?P<host>ssh://[^/]+)(?P<folder>/.*)?")
_FORM = "Name it as ssh://pi@raspberrypi.local; add a folder, such as /~/bench, to keep there what was sent."


@dataclass(frozen=True)
class Address:
    """``host`` is what tells it from others; without a ``folder`` nothing stays there. ``reach`` leads to its shell.

    Without ``reach`` it is this machine, as if it were another.
    """

    host: str
    folder: str
    reach: tuple[str, ...]

    def __str__(self) -> str:
        return shown_host(self.host)


def address(text: str) -> Address:
    """``ssh://[user@]host[:port][/folder]``, ``/~/folder`` for one in the user's home. BadUsage for what is none."""
    found = _HOST.fullmatch(text)
    if found is None:
        raise BadUsage(f"'{text}' is no host.", _FORM)
    folder = found["folder"] or ""
    try:
        there = device.target(found["host"] + (folder if folder.strip("/") else "/~/unused"))
    except BadUsage as error:
        raise BadUsage(f"'{text}' is no host.", _FORM) from error
    return Address(found["host"], there.folder if folder.strip("/") else "", there.reach)


def addresses(hosts: tuple[str, ...]) -> tuple[bool, tuple[Address, ...]]:
    """Whether this machine is among the hosts, as it is where none is named; and the others.

    BadUsage for one that is named twice.
    """
    others = tuple(address(text) for text in hosts if text != LOCAL)
    if len({each.host for each in others}) < len(others) or hosts.count(LOCAL) > 1:
        raise BadUsage("A host is named twice.", "Name each once.")
    return not hosts or LOCAL in hosts, others

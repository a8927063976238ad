"""``oci://registry/repository:tag``, or with ``@sha256:...`` for what no one can change, or with both."""

import re
from dataclasses import dataclass

from toolchain.errors import BadUsage
from toolchain.legible import MOST_IN_SENTENCE, legible

SCHEME = "oci://"
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_ADDRESS = re.compile(
    r"oci://(?P<host>(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?)"
    rf"/(?P<repository>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_MOST = 1_000
_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|\[::1\]")
_DOCKER_HUB = "docker.io"


@dataclass(frozen=True)
class Address:
    """A repository at a ``registry``, which is a host with or without a port, and what in it is meant."""

    registry: str
    repository: str
    tag: str | None
    digest: str | None

    @property
    def host(self) -> str:
        """Where it answers."""
        return "registry-1.docker.io" if self.registry == _DOCKER_HUB else self.registry

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine, so that nobody listens between."""
        return _LOOPBACK.fullmatch(re.sub(r":\d+$", "", self.registry)) is not None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{SCHEME}{self.registry}/{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


def address(text: str) -> Address:
    """What ``text`` names; BadUsage for what names nothing, or neither tag nor digest."""
    found = _ADDRESS.fullmatch(text) if len(text) <= _MOST else None
    do = "Name it as oci://registry.example/team/model:1.0, in small letters up to the tag, or with @sha256:..."
    if found is None:
        raise BadUsage(f"'{legible(text, most=MOST_IN_SENTENCE)}' is no place in a registry.", do)
    if not (found["tag"] or found["digest"]):
        raise BadUsage(f"{text} names no tag.", do)
    return Address(found["host"], found["repository"], found["tag"], found["digest"])

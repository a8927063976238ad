"""Who one is to a registry: what ``docker login``, or another tool that writes its file, has kept.

https://docs.docker.com/reference/cli/docker/login/#credential-stores; a password is never shown nor written here.
"""

import base64
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolchain import regular_file, strict_json
from toolchain.errors import BadUsage, NotAvailable
from toolchain.legible import legible

_DOCKER_HUB, _KEY_OF_DOCKER_HUB = "docker.io", "https://index.docker.io/v1/"
_HELPER = re.compile(r"[A-Za-z0-9_.-]+")
_WITHIN_S = 60
_TOKEN = "<token>"
"""The name of a user whose secret is a token that stands for him."""


@dataclass(frozen=True)
class Credentials:
    """A user with a password, or a ``token`` that a registry exchanges for others."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @property
    def basic(self) -> str | None:
        """For HTTP's Basic scheme."""
        if not self.user:
            return None
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


NOBODY = Credentials()


def of(registry: str) -> Credentials:
    """What is kept for ``registry``; NOBODY where nothing is.

    BadUsage for a file that is no configuration of docker's, NotAvailable for a helper that is not there or fails.
    """
    path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    if not path.is_file():
        return NOBODY
    try:
        kept = strict_json.parsed(regular_file.read_bytes(path))
    except ValueError as error:
        raise BadUsage(f"{path} is no JSON.", "Mend it, or `docker login` again.") from error
    if not isinstance(kept, dict):
        raise BadUsage(f"{path} is no configuration of docker's.", "Mend it, or `docker login` again.")
    key = _KEY_OF_DOCKER_HUB if registry == _DOCKER_HUB else registry
    helper = _mapping(kept, "credHelpers").get(registry) or kept.get("credsStore")
    found = _of_helper(str(helper), key) if helper else NOBODY
    if found != NOBODY:
        return found
    auths = _mapping(kept, "auths")
    entry = auths.get(key) or next((auths[name] for name in auths if _host(name) == registry), None)
    return _of_entry(entry, path) if isinstance(entry, dict) else NOBODY


def _mapping(kept: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = kept.get(name)
    return found if isinstance(found, dict) else {}


def _host(key: str) -> str:
    return re.sub(r"^https?://", "", key).partition("/")[0]


def _of_entry(entry: Mapping[str, Any], path: Path) -> Credentials:
    token = str(entry.get("identitytoken") or "")
    if "auth" not in entry:
        return Credentials(str(entry.get("username") or ""), str(entry.get("password") or ""), token)
    try:
        user, _, password = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
    except ValueError as error:
        raise BadUsage(f"{path} holds credentials that cannot be read.", "`docker login` again.") from error
    return Credentials(user, password.rstrip("\0"), token)


def _of_helper(name: str, key: str) -> Credentials:
    """https://github.com/docker/docker-credential-helpers."""
    program = f"docker-credential-{name}"
    do = "Install it, or take it out of docker's config.json."
    if not _HELPER.fullmatch(name):
        raise BadUsage(f"'{legible(name)}' is no name of a credential helper.", do)
    try:
        ended = subprocess.run(
            [program, "get"], input=key.encode(), capture_output=True, timeout=_WITHIN_S, check=False
        )
    except (FileNotFoundError, PermissionError) as error:
        raise NotAvailable(f"There is no {program} on this machine.", do) from error
    except subprocess.TimeoutExpired as error:
        raise NotAvailable(f"{program} did not answer within {_WITHIN_S} s.", "Look at what it waits for.") from error
    if ended.returncode:
        if b"not found" in ended.stdout:
            return NOBODY
        raise NotAvailable(f"{program} ended with code {ended.returncode}.", f"`echo {key} | {program} get` says why.")
    try:
        told = json.loads(ended.stdout)
        user, secret = str(told["Username"]), str(told["Secret"])
    except (ValueError, TypeError, KeyError) as error:
        raise NotAvailable(f"{program} says nothing that could be read.", "Look at its documentation.") from error
    return Credentials(token=secret) if user == _TOKEN else Credentials(user, secret)

"""What a registry wants to see of us: nothing, a password, or a token that another server gives for it.

https://distribution.github.io/distribution/spec/auth/token/.
"""

import re
from collections.abc import Sequence
from urllib.parse import urlencode, urlsplit

from toolchain import strict_json
from toolchain.errors import BadUsage, NotAvailable
from toolchain.legible import MOST_IN_CELL, legible
from toolchain.shipping.registry.connections import Connections, parts_of
from toolchain.shipping.registry.credentials import Credentials

_SCHEME = re.compile(r"\s*([A-Za-z]+)\s+(.*)", re.DOTALL)
_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))')
_MOST_BYTES = 2**20
_CLIENT = "nnx"


def granted(connections: Connections, root: str, challenges: Sequence[str], known: Credentials) -> str | None:
    """What ``Authorization`` says from now on, after the answer 401 of ``root`` with these ``challenges``.

    None where we have nothing to say: the registry then refuses again.
    """
    for challenge in challenges:
        found = _SCHEME.fullmatch(challenge)
        scheme = found[1].lower() if found else challenge.strip().lower()
        if found and scheme == "bearer":
            told = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(found[2])}
            return f"Bearer {_token(connections, root, told, known)}"
        if scheme == "basic":
            return known.basic
    return None


def _token(connections: Connections, root: str, told: dict[str, str], known: Credentials) -> str:
    realm = parts_of(told.get("realm", ""))
    shown = legible(realm.netloc, most=MOST_IN_CELL)
    if realm.scheme not in ("https", urlsplit(root).scheme):
        raise NotAvailable(f"{root} sends us to '{shown}' for a token, which has no TLS.", "Tell who keeps it.")
    asked = {name: told[name] for name in ("service", "scope") if told.get(name)}
    if known.token:
        form = {**asked, "grant_type": "refresh_token", "refresh_token": known.token, "client_id": _CLIENT}
        body = urlencode(form).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
        asking = connections.answer("POST", realm.geturl(), headers, lambda: [body])
    else:
        query = "&".join(part for part in (realm.query, urlencode(asked)) if part)
        headers = {"Authorization": known.basic} if known.basic else {}
        asking = connections.answer("GET", realm._replace(query=query).geturl(), headers)
    with asking as response:
        said = response.read(_MOST_BYTES)
        if response.status in (401, 403):
            raise BadUsage(f"{shown} does not know you.", f"`docker login {urlsplit(root).netloc}` again.")
    try:
        answer = strict_json.parsed(said)
        return re.fullmatch(r"[\x21-\x7e]+", answer.get("token") or answer["access_token"])[0]  # type: ignore[index]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NotAvailable(f"{shown} gives no token: it answers {response.status}.", "Tell who keeps it.") from error

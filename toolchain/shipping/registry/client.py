"""A repository in an OCI registry: blobs by their SHA-256, manifests by tag or digest.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPResponse
from urllib.parse import urlencode, urljoin, urlsplit

from toolchain import strict_json
from toolchain.errors import BadUsage, CheckFailed, NotAvailable
from toolchain.legible import MOST_IN_CELL, legible
from toolchain.shipping.registry import authorization, credentials
from toolchain.shipping.registry.address import Address
from toolchain.shipping.registry.connections import Broken, Connections, Content, NoTls, parts_of

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
_ACCEPTED = ", ".join(
    (
        MANIFEST,
        INDEX,
        *(f"application/vnd.docker.distribution.{kind}.v2+json" for kind in ("manifest", "manifest.list")),
    )
)
_MOST_MANIFEST_BYTES = 4 * 2**20
"""What registries take."""
_MOST_SAID_BYTES = 2**16
_REDIRECTS = 5
_BUSY, _PAUSES_S = {429, 502, 503, 504}, (0.5, 2.0)
_TRIES = 5
_UNSAID = {401: "it does not know you", 403: "you may not", 404: "there is nothing of that name"}
"""For answers without a word, such as those to HEAD."""


@dataclass(frozen=True)
class Blob:
    """What can be sent: ``pieces`` gives it from a place on."""

    digest: str
    size_bytes: int
    pieces: Callable[[int], Iterable[bytes]]


def blob_of(content: bytes) -> Blob:
    return Blob(digest_of(content), len(content), lambda start: [content[start:]])


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Repository:
    """Its requests, with whatever the registry asks to know of us; a context manager.

    Raises BadUsage for what it does not have or does not let us, NotAvailable where it does not answer, CheckFailed for
    what is not what it should be. It is asked over TLS, and in the clear with ``plain_http``, or on this machine where
    it has no TLS.
    """

    def __init__(self, address: Address, *, plain_http: bool = False) -> None:
        self._address = address
        self._connections = Connections()
        self._root = f"{'http' if plain_http else 'https'}://{address.host}/"
        self._authorization: str | None = None

    def __enter__(self) -> "Repository":
        if self._address.is_here and self._root.startswith("https:"):
            try:
                with self._connections.answer("GET", urljoin(self._root, "/v2/"), {}):
                    pass
            except NoTls:
                self._root = self._root.replace("https://", "http://", 1)
        return self

    def __exit__(self, *ignored: object) -> None:
        self._connections.close()

    # --- manifests

    def manifest(self, reference: str) -> bytes:
        """The manifest of a tag or digest."""
        with self._asked("GET", self._place("manifests", reference), {"Accept": _ACCEPTED}) as response:
            self._require(response, (200,), f"{self._named(reference)} is not there")
            content = response.read(_MOST_MANIFEST_BYTES + 1)
        if len(content) > _MOST_MANIFEST_BYTES:
            raise BadUsage(f"{self._named(reference)} has a manifest of more than 4 MB.", "Look at what was pushed.")
        found = digest_of(content)
        told = response.headers.get("Docker-Content-Digest") or found
        for wanted in (told, reference if reference.startswith("sha256:") else found):
            if wanted != found:
                what = f"What {self._address.registry} calls {legible(wanted, most=MOST_IN_CELL)} is {found}."
                raise CheckFailed(what, "Do not use it, and tell who keeps the registry.")
        return content

    def digest_at(self, tag: str) -> str | None:
        """Where a tag leads now; None where there is none."""
        with self._asked("HEAD", self._place("manifests", tag), {"Accept": _ACCEPTED}) as response:
            if response.status == 404:
                return None
            self._require(response, (200,), f"{self._named(tag)} cannot be looked at")
            told = response.headers.get("Docker-Content-Digest")
        return told or digest_of(self.manifest(tag))

    def put(self, reference: str, manifest: bytes, media_type: str = MANIFEST) -> str:
        """A tag leads to ``manifest`` from now on, or it is there by its digest; which it is."""
        headers = {"Content-Type": media_type, "Content-Length": str(len(manifest))}
        with self._asked("PUT", self._place("manifests", reference), headers, lambda: [manifest]) as response:
            self._require(response, (201, 202), f"{self._named(reference)} was not taken")
            told = response.headers.get("Docker-Content-Digest")
        if told not in (None, digest_of(manifest)):
            raise CheckFailed(f"{self._address.registry} has taken it for another one.", "Tell who keeps the registry.")
        return digest_of(manifest)

    # --- blobs

    def has(self, digest: str) -> bool:
        with self._asked("HEAD", self._place("blobs", digest)) as response:
            if response.status != 404:
                self._require(response, (200,), f"{self._address.repository} cannot be looked into")
            return response.status == 200

    @contextlib.contextmanager
    def blob(self, digest: str, start: int = 0) -> Iterator[tuple[HTTPResponse, int]]:
        """A blob from ``start`` on, or from its beginning where the registry knows no parts: what it is, to be read."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._asked("GET", self._place("blobs", digest), headers) as response:
            if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise NotAvailable(f"{self._address.registry} sends another part than was asked for.", "Pull again.")
            if response.status != 416:
                self._require(response, (200, 206), f"{self._address.registry} has lost {digest}")
                yield response, start if response.status == 206 else 0
                return
        with self._asked("GET", self._place("blobs", digest)) as response:
            self._require(response, (200,), f"{self._address.registry} has lost {digest}")
            yield response, 0

    def content(self, digest: str, *, most_bytes: int) -> bytes:
        """A small blob, which is what its digest says."""
        with self.blob(digest) as (response, _):
            content = response.read(most_bytes + 1)
        if digest_of(content) != digest:
            raise CheckFailed(f"{digest} is something else.", "Do not use it, and tell who keeps the registry.")
        return content

    def take_over(self, digest: str, repository: str) -> bool:
        """Whether the registry has a blob of another repository in this one too, from now on."""
        query = urlencode({"mount": digest, "from": repository})
        with self._asked("POST", self._place("blobs", f"uploads/?{query}"), {"Content-Length": "0"}) as response:
            return response.status == 201

    def send(self, blob: Blob, advance: Callable[[int], None]) -> None:
        """Send a blob, going on where it broke off if the registry knows how far it got."""
        place, start = self._new_upload(), 0
        for left in reversed(range(_TRIES)):
            if start == blob.size_bytes:
                break
            try:
                place = self._sent(place, blob, start, advance)
                break
            except Broken:
                if not left:
                    raise
                time.sleep(_PAUSES_S[0])
                place, start = self._reached(place, blob.size_bytes)
        joint = "&" if urlsplit(place).query else "?"
        ending = f"{place}{joint}{urlencode({'digest': blob.digest})}"
        with self._asked("PUT", ending, {"Content-Length": "0"}) as response:
            self._require(response, (201, 204), f"{blob.digest} was not taken")

    def _new_upload(self) -> str:
        with self._asked("POST", self._place("blobs", "uploads/"), {"Content-Length": "0"}) as response:
            self._require(response, (202,), f"{self._address.repository} takes nothing from you")
            return self._location(response)

    def _sent(self, place: str, blob: Blob, start: int, advance: Callable[[int], None]) -> str:
        def pieces() -> Iterator[bytes]:
            for piece in blob.pieces(start):
                yield piece
                advance(len(piece))

        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(blob.size_bytes - start),
            "Content-Range": f"{start}-{blob.size_bytes - 1}",
        }
        with self._asked("PATCH", place, headers, pieces) as response:
            if response.status == 416:
                raise Broken(f"{self._address.registry} has lost count of an upload.", "Do it again.")
            self._require(response, (202, 204), f"{blob.digest} was not taken")
            return self._location(response, place)

    def _reached(self, place: str, size: int) -> tuple[str, int]:
        """How far an upload came, and where it goes on: a new one where the registry has dropped it."""
        with self._asked("GET", place) as response:
            first, _, last = response.headers.get("Range", "").removeprefix("bytes=").partition("-")
            known = response.status in (200, 204) and first == "0" and last.isdecimal() and len(last) < 20
            if known and (reached := int(last) + 1 if last != "0" else 0) <= size:
                return self._location(response, place), reached
        return self._new_upload(), 0

    def _location(self, response: HTTPResponse, before: str = "") -> str:
        told = response.headers.get("Location")
        if not told and not before:
            raise NotAvailable(f"{self._address.registry} does not say where to send it.", "Is it a registry?")
        return self._led(before or self._root, told or before)

    # --- requests

    def _place(self, kind: str, what: str) -> str:
        return f"/v2/{self._address.repository}/{kind}/{what}"

    def _named(self, reference: str) -> str:
        mark = "@" if reference.startswith("sha256:") else ":"
        return f"oci://{self._address.registry}/{self._address.repository}{mark}{reference}"

    @contextlib.contextmanager
    def _asked(
        self, method: str, place: str, headers: Mapping[str, str] | None = None, content: Content | None = None
    ) -> Iterator[HTTPResponse]:
        """The answer to a request, after redirects, pauses, and whatever it takes to be let in."""
        url, pauses, redirects, let_in = urljoin(self._root, place), list(_PAUSES_S), _REDIRECTS, False
        while True:
            own = dict(headers or {})
            if self._authorization and _origin(url) == _origin(self._root):
                own["Authorization"] = self._authorization
            with self._connections.answer(method, url, own, content) as response:
                status = response.status
                if status == 401 and not let_in and _origin(url) == _origin(self._root):
                    challenge = response.headers.get_all("WWW-Authenticate") or []
                elif status in _BUSY and pauses:
                    pass
                elif status in (301, 302, 303, 307, 308) and (method in ("GET", "HEAD") or status in (307, 308)):
                    url, redirects = (
                        self._led(url, response.headers.get("Location") if redirects else ""),
                        redirects - 1,
                    )
                else:
                    yield response
                    if method == "HEAD" or (response.length is not None and response.length <= _MOST_SAID_BYTES):
                        response.read()  # so that the connection is kept
                    return
                response.read(_MOST_SAID_BYTES)
            if status == 401:
                let_in = True
                known = credentials.of(self._address.registry)
                self._authorization = authorization.granted(self._connections, self._root, challenge, known)
            elif status in _BUSY:
                time.sleep(pauses.pop(0))

    def _led(self, url: str, told: str | None) -> str:
        """Where the answer to ``url`` leads; never out of TLS, nor to what is no place to ask."""
        if not told:
            raise NotAvailable(f"{self._address.registry} leads nowhere.", "Tell who keeps the registry.")
        try:
            further = urljoin(url, told)
        except ValueError:  # brackets
            further = told
        parts = parts_of(further)
        if parts.scheme == "http" and urlsplit(url).scheme == "https":
            what = f"{self._address.registry} leads to {legible(parts.netloc, most=MOST_IN_CELL)}, which has no TLS."
            raise NotAvailable(what, "Tell who keeps the registry.")
        return further

    def _require(self, response: HTTPResponse, fine: tuple[int, ...], what: str) -> None:
        """An error about any other answer, with what the registry says."""
        status = response.status
        if status in fine:
            return
        reason = _reason(response.read(_MOST_SAID_BYTES)) or _UNSAID.get(status) or f"it answers {status}"
        said = f"{what}: {legible(reason, most=MOST_IN_CELL).rstrip('.')}."
        if status in (401, 403):
            raise BadUsage(said, f"`docker login {self._address.registry}` as somebody who may.")
        if status in _BUSY or status >= 500:
            raise NotAvailable(said, "Do it again later, or tell who keeps the registry.")
        raise BadUsage(said, "Look at the name, the tag and what the registry takes.")


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _reason(said: bytes) -> str | None:
    """https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#error-codes."""
    try:
        first = strict_json.parsed(said)["errors"][0]
        return str(first.get("message") or first["code"])
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None

"""A registry of a few lines that does what a real one would not: each test says what it answers."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from toolchain.shipping.registry import model_pack
from toolchain.shipping.registry.address import Address


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Request(BaseHTTPRequestHandler):
    """One request, and what a test answers it with."""

    protocol_version = "HTTP/1.1"
    server: "_Server"

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(content))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def part(self, content: bytes, most: int | None = None) -> None:
        """What the header Range asks for, and of that no more than ``most`` bytes before the connection ends."""
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        left = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(left)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(left if most is None else left[:most])
        if most is not None:
            self.close_connection = True

    def do_GET(self) -> None:
        self.server.registry.handle(self)

    do_HEAD = do_POST = do_PATCH = do_PUT = do_GET  # noqa: N815

    def log_message(self, *ignored: object) -> None:
        """Silent."""


class HostileRegistry:
    """Holds one ``manifest`` and ``blobs``; ``answers`` of a test come first, by the method and a part of the path."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.address = Address(place, "small", "1", None)
        self.manifest = b""
        self.blobs: dict[str, bytes] = {}
        self.answers: dict[tuple[str, str], Callable[[Request], None]] = {}
        self.asked: list[tuple[str, str, Mapping[str, str]]] = []

    def hold(self, package: Path) -> None:
        pack = model_pack.of(package)
        self.manifest = pack.manifest
        self.blobs = {blob.digest: b"".join(blob.pieces(0)) for blob in pack.blobs}

    def change(self, edit: Callable[[dict[str, Any]], object]) -> None:
        """Another manifest."""
        manifest = json.loads(self.manifest)
        edit(manifest)
        self.manifest = json.dumps(manifest).encode()

    def largest(self) -> str:
        return max(self.blobs, key=lambda each: len(self.blobs[each]))

    def handle(self, request: Request) -> None:
        self.asked.append((request.command, request.path, dict(request.headers)))
        for (method, part), answer in self.answers.items():
            if request.command == method and part in request.path:
                answer(request)
                return
        last = request.path.rpartition("/")[2]
        content = self.manifest if "/manifests/" in request.path else self.blobs.get(last)
        if content is None:
            request.answer(404, b'{"errors": [{"code": "BLOB_UNKNOWN", "message": "unknown \\u001b[31m"}]}')
        elif request.command == "HEAD":
            request.answer(200, content)
        else:
            request.part(content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    registry: HostileRegistry

    def handle_error(self, *ignored: object) -> None:
        """Who was to hear the answer is gone, which is what some tests are about."""


@contextmanager
def running() -> Iterator[HostileRegistry]:
    with _Server(("127.0.0.1", 0), Request) as server:
        server.registry = HostileRegistry(f"127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server.registry
        server.shutdown()
        thread.join()

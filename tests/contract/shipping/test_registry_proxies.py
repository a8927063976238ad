"""Registries behind a proxy, which the environment names as it does for everybody else."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests import device_folder, hostile_registry, registry_process
from toolchain.errors import NotAvailable
from toolchain.shipping.registry import pulling, pushing
from toolchain.shipping.registry.address import Address, address


class Tunnel(BaseHTTPRequestHandler):
    """A proxy that joins two connections, and keeps whom it was asked for."""

    server: "Proxy"

    def do_CONNECT(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Proxy-Authorization")))
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as there:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_pass_on, args=(there, self.connection), daemon=True)
            back.start()
            _pass_on(self.connection, there)
            back.join()
        self.close_connection = True

    def log_message(self, *ignored: object) -> None:
        """Silent."""


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):  # one of them is gone
        while piece := source.recv(2**16):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


class Proxy(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Tunnel)
        self.asked: list[tuple[str, str | None]] = []

    def handle_error(self, *ignored: object) -> None:
        """Who was joined is gone."""


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", "/nowhere")
    return device_folder.version(tmp_path / "a", "a")


def test_tls_goes_through_a_tunnel(
    package: Path, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, authority = registry_process.certificate(tmp_path / "certificates")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    monkeypatch.setenv("https_proxy", f"http://me:pass%20word@127.0.0.1:{proxy.server_address[1]}")
    with registry_process.running(tmp_path / "registry", certificate=certificate) as registry:
        place = address(f"oci://{registry.place}/small:1")
        pushing.push(package, place)
        pulling.pull(place, tmp_path / "small.ortpackage")
        assert set(proxy.asked) == {(registry.place, "Basic bWU6cGFzcyB3b3Jk")}
        proxy.asked.clear()
        monkeypatch.setenv("no_proxy", "localhost")
        pulling.pull(place, tmp_path / "small.ortpackage")
        assert not proxy.asked


def test_what_has_no_tls_is_asked_of_the_proxy(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Address("registry.invalid", "small", "1", None)
    with hostile_registry.running() as asked:
        asked.hold(package)
        monkeypatch.setenv("http_proxy", asked.place)
        pulling.pull(place, tmp_path / "small.ortpackage", plain_http=True)
        assert all(path.startswith("http://registry.invalid/v2/small/") for _, path, _ in asked.asked)
    with pytest.raises(NotAvailable, match="cannot be reached"):
        pulling.pull(place, tmp_path / "small.ortpackage", plain_http=True)

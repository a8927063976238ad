"""A real OCI registry on this machine, Debian's docker-registry, in the open, with a password, or over TLS."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

USER, PASSWORD = "somebody", "open sesame"


@dataclass(frozen=True)
class Registry:
    """``place`` is its host and port; below ``folder`` lies what it keeps."""

    place: str
    folder: Path

    def blobs(self) -> set[str]:
        """The SHA-256s of all that it holds."""
        return {path.parent.name for path in self.folder.glob("docker/registry/v2/blobs/sha256/*/*/data")}


@contextmanager
def running(folder: Path, *, password: bool = False, certificate: Path | None = None) -> Iterator[Registry]:
    """A registry while the block lasts; the test is skipped where there is none."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("no docker-registry here: Debian's package has it")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    http: dict[str, object] = {"addr": f"127.0.0.1:{port}"}
    if certificate is not None:
        http["tls"] = {"certificate": str(certificate), "key": str(certificate.with_suffix(".key"))}
    configuration: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder)}},
        "http": http,
    }
    if password:
        (folder / "htpasswd").write_text(_htpasswd())
        configuration["auth"] = {"htpasswd": {"realm": "here", "path": str(folder / "htpasswd")}}
    (folder / "config.yml").write_text(json.dumps(configuration))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", folder / "config.yml"], stdout=log, stderr=log)
        try:
            _wait(process, port, folder / "log")
            yield Registry(f"localhost:{port}", folder)
        finally:
            process.terminate()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    for _ in range(200):
        with socket.socket() as trial:
            if process.poll() is None and trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.skip(f"docker-registry does not start here: {log.read_text()[-300:]}")


def _htpasswd() -> str:
    if shutil.which("htpasswd") is None:
        pytest.skip("no htpasswd here: Debian's apache2-utils have it")
    made = subprocess.run(["htpasswd", "-nbB", USER, PASSWORD], check=True, capture_output=True, text=True)
    return made.stdout


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost, its key beside it, and the authority that has signed it, made just now."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")

    def openssl(*words: object) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)

    folder.mkdir(parents=True, exist_ok=True)
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    authority, request, made = folder / "authority.pem", folder / "server.csr", folder / "server.pem"
    own = ("-subj", "/CN=us", "-days", 2, "-addext", "keyUsage=critical,keyCertSign")  # Python 3.13 insists
    openssl("req", "-x509", *curve, "-keyout", folder / "authority.key", "-out", authority, *own)
    openssl("req", *curve, "-keyout", folder / "server.key", "-out", request, "-subj", "/CN=localhost")
    identifiers = "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    (folder / "names").write_text(f"subjectAltName=DNS:localhost,IP:127.0.0.1\n{identifiers}")
    openssl(
        "x509", "-req", "-in", request, "-CA", authority, "-CAkey", folder / "authority.key", "-CAcreateserial",
        "-out", made, "-days", 2, "-extfile", folder / "names",
    )  # fmt: skip
    return made, authority

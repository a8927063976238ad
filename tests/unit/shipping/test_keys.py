"""Keys are P-256 in PEM, the private one for its owner alone, and nothing that is there is replaced."""

import errno
import itertools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from toolchain.errors import BadUsage
from toolchain.shipping import keys


@pytest.mark.parametrize("umask", [0o022, 0o077, 0])
def test_a_pair_fits_and_nobody_else_reads_the_private_one(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        pair = keys.new(tmp_path / "new" / "release.v1")
    finally:
        os.umask(before)
    assert (pair.private.name, pair.public.name) == ("release.v1.key", "release.v1.pub")
    assert pair.private.stat().st_mode & 0o777 == 0o600
    assert pair.public.stat().st_mode & 0o111 == 0
    key = keys.private(pair.private)
    assert key.curve.name == "secp256r1"
    assert keys.fingerprint(key.public_key()) == keys.fingerprint(keys.public(pair.public)) == pair.fingerprint


@pytest.mark.parametrize("there", ["one.key", "one.pub"])
@pytest.mark.parametrize("dangling", [False, True])
def test_what_is_there_is_never_replaced(there: str, dangling: bool, tmp_path: Path) -> None:
    (tmp_path / there).symlink_to("elsewhere") if dangling else (tmp_path / there).write_text("mine")
    with pytest.raises(BadUsage, match=f"{there} is there already"):
        keys.new(tmp_path / "one")
    assert [path.name for path in tmp_path.iterdir()] == [there]


@pytest.mark.parametrize("full_at", [1, 2])
def test_where_the_disk_is_full_neither_key_is_left(
    full_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = itertools.count(1)

    def flush(handle: int) -> None:
        if next(calls) == full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", flush)
    with pytest.raises(OSError, match="No space"):
        keys.new(tmp_path / "one")
    assert not list(tmp_path.iterdir())


def test_openssl_reads_both(tmp_path: Path) -> None:
    pair = keys.new(tmp_path / "one")
    told = subprocess.run(["openssl", "pkey", "-in", pair.private, "-pubout"], capture_output=True, check=True).stdout
    assert told == pair.public.read_bytes()


def _pem(key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: str = "") -> bytes:
    how = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    return bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how))


UNFIT: dict[str, tuple[Callable[[], bytes], str]] = {
    "text": (lambda: b"hello", "holds no private key"),
    "empty": (lambda: b"", "holds no private key"),
    "cut": (lambda: _pem(ec.generate_private_key(ec.SECP256R1()))[:100], "holds no private key"),
    "Ed25519": (lambda: _pem(ed25519.Ed25519PrivateKey.generate()), "another kind"),
    "RSA": (lambda: _pem(rsa.generate_private_key(65537, 2048)), "another kind"),
    "another curve": (lambda: _pem(ec.generate_private_key(ec.SECP256K1())), "another kind"),
    "with a password": (lambda: _pem(ec.generate_private_key(ec.SECP256R1()), "secret"), "wants a password"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_is_no_key_that_signs_is_refused(name: str, tmp_path: Path) -> None:
    make, why = UNFIT[name]
    (tmp_path / "a.key").write_bytes(make())
    with pytest.raises(BadUsage, match=why):
        keys.private(tmp_path / "a.key")


def test_a_private_key_is_not_trusted(pair: keys.Pair, tmp_path: Path) -> None:
    with pytest.raises(BadUsage, match="holds a private key"):
        keys.public(pair.private)
    (tmp_path / "a.pub").write_text("hello")
    with pytest.raises(BadUsage, match="holds no public key"):
        keys.public(tmp_path / "a.pub")
    with pytest.raises(BadUsage, match="There is no key"):
        keys.public(tmp_path / "b.pub")

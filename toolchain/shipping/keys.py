"""Keys that packages are signed with: elliptic curves, in the files that OpenSSL and everybody else read and write."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain import regular_file
from toolchain.errors import BadUsage

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

PRIVATE, PUBLIC = ".key", ".pub"
_CURVES = ("secp256r1", "secp384r1", "secp521r1")  # all that OpenSSF's model signing 1.0 takes
_MAKE = "Make a pair with `nnx keys new NAME`: sign with NAME.key, trust NAME.pub."


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Where a new key lies, and the fingerprint by which people tell each other which it is."""

    private: Path
    public: Path
    fingerprint: str


def new(name: Path) -> Pair:
    """Write ``name``.key, which its owner alone may read, and ``name``.pub, for all who are to trust it: P-256, PEM.

    Raises BadUsage, and leaves what is there as it is, where one of them exists.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    pair = [name.with_name(name.name + ending) for ending in (PRIVATE, PUBLIC)]
    for path in pair:
        if os.path.lexists(path):
            raise BadUsage(f"{path} is there already.", "Choose another name: what it signed is trusted by it alone.")
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    name.parent.mkdir(parents=True, exist_ok=True)
    _write_new(pair[0], secret, 0o600)
    try:
        _write_new(pair[1], pem(key.public_key()), 0o644)
    except BaseException:
        pair[0].unlink()
        raise
    return Pair(private=pair[0], public=pair[1], fingerprint=fingerprint(key.public_key()))


def private(path: Path) -> "EllipticCurvePrivateKey":
    """The key in a file that :func:`new` or OpenSSL wrote. Raises BadUsage."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(_read(path), None)
    except TypeError as error:
        raise BadUsage(f"{path} wants a password.", "Take it off with `openssl pkey`, or give another key.") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadUsage(f"{path} holds no private key.", _MAKE) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _CURVES:
        raise BadUsage(f"{path} holds a key of another kind than P-256, P-384 or P-521.", _MAKE)
    return key


def public(path: Path) -> "EllipticCurvePublicKey":
    """The key that is trusted. Raises BadUsage."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    content = _read(path)
    if b"PRIVATE KEY" in content:
        raise BadUsage(f"{path} holds a private key.", f"Name the public one, which ends in {PUBLIC}.")
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadUsage(f"{path} holds no public key.", _MAKE) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise BadUsage(f"{path} holds a key of another kind than P-256, P-384 or P-521.", _MAKE)
    return key


def fingerprint(key: "EllipticCurvePublicKey") -> str:
    """The hex SHA-256 of the key's file, as signatures hint at the key that they want."""
    return hashlib.sha256(pem(key)).hexdigest()


def hash_name(key: "EllipticCurvePublicKey") -> str:
    """The hash that a signature with it takes, as OpenSSL calls it."""
    return {256: "sha256", 384: "sha384", 521: "sha512"}[key.curve.key_size]


def pem(key: "EllipticCurvePublicKey") -> bytes:
    """The file that holds it."""
    from cryptography.hazmat.primitives import serialization

    return bytes(key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))


def _read(path: Path) -> bytes:
    try:
        return regular_file.read_bytes(path)
    except FileNotFoundError as error:
        raise BadUsage(f"There is no key {path}.", _MAKE) from error


def _write_new(path: Path, content: bytes, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    try:
        with os.fdopen(handle, "wb") as made:
            made.write(content)
            made.flush()
            os.fsync(handle)
    except BaseException:
        path.unlink()
        raise

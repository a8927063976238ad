"""ECDSA in plain Python says what OpenSSL's says, and of broken packages what nnx says."""

import base64
import hashlib
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from benchmarks.hard import base_package, hostile_packages
from tests.unit.shipping.runner_signature import PLACE, faults_by_runner, runner
from toolchain.shipping import keys, signature
from toolchain.shipping.bad_package import BadPackage
from toolchain.shipping.folder import files_in, sha256_of

SHA256 = ec.ECDSA(hashes.SHA256())
N = runner.N


def pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return bytes(key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))


def by_openssl(key: ec.EllipticCurvePublicKey, message: bytes, sig: bytes) -> bool:
    try:
        key.verify(sig, message, SHA256)
    except InvalidSignature:
        return False
    return True


def by_runner(key: ec.EllipticCurvePublicKey, message: bytes, sig: bytes) -> bool:
    return bool(runner.is_signed(message, sig, runner.public_key(pem(key))[0]))


@pytest.mark.parametrize(
    ("message", "r", "s"),
    [
        (
            b"sample",
            0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716,
            0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8,
        ),
        (
            b"test",
            0xF1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367,
            0x019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083,
        ),
    ],
)
def test_the_vectors_of_rfc_6979(message: bytes, r: int, s: int) -> None:
    x = 0x60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6
    y = 0x7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    assert by_runner(key, message, encode_dss_signature(r, s))
    assert not by_runner(key, message + b".", encode_dss_signature(r, s))


@pytest.mark.parametrize("secret", [1, 2, 3, N - 1, N - 2, (N + 1) // 2, N // 3])
def test_keys_whose_sums_meet_themselves_or_infinity(secret: int) -> None:
    """Such as G + G and G + (-G)."""
    key = ec.derive_private_key(secret, ec.SECP256R1())
    sig = key.sign(b"message", SHA256)
    assert by_runner(key.public_key(), b"message", sig)
    assert not by_runner(key.public_key(), b"massage", sig)


def test_it_says_what_openssl_says_of_right_and_of_changed_signatures() -> None:
    draw = random.Random(0)
    accepted = 0
    for _ in range(60):
        key, other = (ec.derive_private_key(draw.randrange(1, N), ec.SECP256R1()) for _ in range(2))
        message = draw.randbytes(draw.randrange(200))
        sig = bytearray(key.sign(message, SHA256))
        for _ in range(draw.choice([0, 0, 1, 2])):
            sig[draw.randrange(len(sig))] ^= 1 << draw.randrange(8)
        public = draw.choice([key, key, key, other]).public_key()
        assert by_runner(public, message, bytes(sig)) == by_openssl(public, message, bytes(sig))
        accepted += by_openssl(public, message, bytes(sig))
    assert 15 < accepted < 45


def der(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes([0x30, len(body)]) + body


def test_signatures_of_another_form_are_judged_as_by_openssl() -> None:
    """Cases of Wycheproof's kind: zero, out of range, negative, other ways to write DER, the malleable twin."""
    key = ec.derive_private_key(1234567, ec.SECP256R1())
    right = key.sign(b"m", SHA256)
    r, s = decode_dss_signature(right)
    one, two = (bytes([2, 1 + n.bit_length() // 8]) + n.to_bytes(1 + n.bit_length() // 8, "big") for n in (r, s))
    numbers = [
        (0, s), (r, 0), (0, 0), (N, s), (r, N), (r + N, s), (r, s + N), (1, 1), (N - 1, 1), (s, r), (r, N - s),
        (N - r, s),
    ]  # fmt: skip
    cases = [encode_dss_signature(*pair) for pair in numbers]
    cases += [
        b"", b"\x30", b"\x30\x00", der(one), der(one, two, two), right + b"\0", right[:-1], der(one, two) + der(one),
        der(b"\2\2\0\1", b"\2\1\1"), der(b"\2\0", b"\2\0"), der(b"\2\1\xff", two), der(b"\x04" + one[1:], two),
        der(b"\2" + bytes([one[1] + 1]) + b"\0" + one[2:], two), b"\x31" + right[1:], b"\x30\x81" + right[1:],
        b"\x30\x80" + one + two + b"\0\0", bytes([0x30, right[1] + 1]) + right[2:], b"\xff" * 72, b"\0" * 72,
        der(one[:1] + b"\xff" + one[2:], two), right * 20,
    ]  # fmt: skip
    judged = [by_openssl(key.public_key(), b"m", case) for case in cases]
    assert [by_runner(key.public_key(), b"m", case) for case in cases] == judged
    assert sum(judged) == 1, "the twin (r, N - s), which signs the same message, is right by the standard"
    assert by_runner(key.public_key(), b"m", right)


def test_a_key_is_a_point_of_the_curve() -> None:
    key = ec.derive_private_key(99, ec.SECP256R1()).public_key()
    (x, y), fingerprint = runner.public_key(b"for you\r\n" + pem(key).replace(b"\n", b"\r\n") + b"and me")
    numbers = key.public_numbers()
    assert (x, y, fingerprint) == (numbers.x, numbers.y, keys.fingerprint(key))
    P = runner.P  # noqa: N806
    for wrong in [(x, y + 1), (0, 0), (x + P, y), (x, P - y + P), (y, x)]:
        raw = b"".join((n % 2**256).to_bytes(32, "big") for n in wrong)
        with pytest.raises(ValueError, match="no public key"):
            runner.public_key(written(runner.PUBLIC + raw))
    private = ec.derive_private_key(99, ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for content in (b"", b"text", private, pem(ec.generate_private_key(ec.SECP384R1()).public_key()), written(b"")):
        with pytest.raises(ValueError, match="no public key"):
            runner.public_key(content)


def written(content: bytes) -> bytes:
    return b"-----BEGIN PUBLIC KEY-----\n%s\n-----END PUBLIC KEY-----\n" % base64.encodebytes(content)


@pytest.mark.parametrize("seed", range(40))
def test_of_broken_packages_it_says_what_nnx_says(
    seed: int, signed_by_one: Path, pair: keys.Pair, tmp_path: Path
) -> None:
    draw, folder = random.Random(seed), Path(shutil.copytree(signed_by_one, tmp_path / "p.ortpackage"))
    for _ in range(draw.choice([0, 1, 1, 2])):
        change = draw.choice(hostile_packages.CHANGES)
        try:
            change(folder, draw)
        except hostile_packages.IMPOSSIBLE:
            continue
    found = faults_by_runner(folder, pair.public)
    try:
        files = files_in(folder)
    except BadPackage:
        assert found, "nnx does not look at it"
        return
    ours = signature.faults(files, {file.name: sha256_of(file) for file in files}, keys.public(pair.public))
    assert found == [(str(fault.kind), fault.file) for fault in ours]


@pytest.fixture(scope="module")
def signed_by_one(pair: keys.Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = base_package.write(tmp_path_factory.mktemp("signed") / "small.ortpackage")
    signature.sign(folder, pair.private)
    return folder


def test_it_is_a_program_of_its_own(signed_by_one: Path, pair: keys.Pair, other: keys.Pair, tmp_path: Path) -> None:
    alone = shutil.copy(PLACE, tmp_path)

    def run(*words: object) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-I", "-S", str(alone), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})

    good, bad, none = (run(signed_by_one, key) for key in (pair.public, other.public, tmp_path / "none.pub"))
    assert (good.returncode, good.stdout) == (0, f"signed by {pair.fingerprint}\n")
    assert bad.returncode == 1
    assert bad.stdout.startswith("wrongly signed: model.sig: it is signed with another key")
    assert (none.returncode, none.stdout) == (2, "")
    assert "cannot be trusted" in none.stderr
    assert run(signed_by_one).returncode == 2
    assert hashlib.sha256(pair.public.read_bytes()).hexdigest() == pair.fingerprint

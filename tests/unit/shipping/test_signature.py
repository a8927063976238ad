"""OpenSSF's own verifier accepts what is signed here, and what it signs is accepted; whatever differs is named."""

import base64
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.hard import base_package
from tests.unit.shipping.runner_signature import faults_by_runner
from toolchain.errors import BadUsage, CheckFailed
from toolchain.shipping import checksums, keys, signature, verification
from toolchain.shipping.folder import files_in, sha256_of
from toolchain.shipping.package import SIGNATURE


@pytest.fixture(scope="session")
def signed_once(pair: keys.Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = base_package.write(tmp_path_factory.mktemp("signed") / "small.ortpackage")
    assert signature.sign(folder, pair.private) == pair.fingerprint
    return folder


@pytest.fixture
def signed(signed_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(signed_once, tmp_path / "small.ortpackage"))


def model_signing(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def found(package: Path, pair: keys.Pair) -> list[tuple[str, str]]:
    """What nnx finds, and the program that packages carry finds too."""
    files = files_in(package)
    ours = signature.faults(files, {file.name: sha256_of(file) for file in files}, keys.public(pair.public))
    assert faults_by_runner(package, pair.public) == [(str(fault.kind), fault.file) for fault in ours]
    return [(str(fault.kind), fault.file) for fault in verification.verify(package, pair.public).faults]


def test_model_signing_accepts_ours_and_refuses_it_changed(signed: Path, pair: keys.Pair, other: keys.Pair) -> None:
    check = ("verify", "key", signed, "--signature", signed / SIGNATURE, "--public_key")
    ended = model_signing(*check, pair.public)
    assert ended.returncode == 0, ended.stderr
    assert model_signing(*check, other.public).returncode != 0
    (signed / "README.md").write_text("changed")
    assert model_signing(*check, pair.public).returncode != 0


@pytest.mark.parametrize("curve", ["SECP256R1", "SECP384R1", "SECP521R1"])
def test_what_model_signing_signs_is_accepted(curve: str, package: Path, tmp_path: Path) -> None:
    for arguments in (
        ["ecparam", "-name", curve.lower().replace("secp256r1", "prime256v1"), "-genkey", "-noout", "-out", "k.key"],
        ["pkey", "-in", "k.key", "-pubout", "-out", "k.pub"],
    ):
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)
    key = tmp_path / "k.key"
    ended = model_signing("sign", "key", package, "--signature", package / SIGNATURE, "--private_key", key)
    assert ended.returncode == 0, ended.stderr
    verdict = verification.verify(package, tmp_path / "k.pub")
    assert verdict.sound, verdict.faults
    assert verdict.signed_by == keys.fingerprint(keys.public(tmp_path / "k.pub"))


def test_what_is_signed_is_whole_and_signed_again_it_stays_so(signed: Path, pair: keys.Pair) -> None:
    assert found(signed, pair) == []
    before = (signed / SIGNATURE).read_bytes()
    signature.sign(signed, pair.private)
    assert (signed / SIGNATURE).read_bytes() != before  # each ECDSA signature is another one
    assert found(signed, pair) == []
    assert not list(signed.glob(".*"))


def _replaced(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def _added(name: str) -> Callable[[Path], None]:
    def add(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("new")

    return add


TAMPERED: dict[str, tuple[Callable[[Path], object], list[tuple[str, str]]]] = {
    "a model": (_replaced("small/fp32/model.onnx", b"x"), [("changed", "small/fp32/model.onnx")]),
    "weights": (_replaced("small/fp32/fp32.data", b"x"), [("changed", "small/fp32/fp32.data")]),
    "the runner": (_replaced("runners/python/run.py", b"evil"), [("changed", "runners/python/run.py")]),
    "manifest": (_replaced("manifest.json", b"{}"), [("changed", "manifest.json")]),
    "golden": (lambda folder: (folder / "nnx/golden.json").unlink(), [("missing", "nnx/golden.json")]),
    "one more": (_added("nnx/more.json"), [("extra", "nnx/more.json")]),
    "what git keeps": (_added(".git/hooks/post-checkout"), [("extra", ".git/hooks/post-checkout")]),
    "a file like the signature": (_added("small/model.sig"), [("extra", "small/model.sig")]),
    "no signature": (lambda folder: (folder / "model.sig").unlink(), [("unsigned", "model.sig")]),
    "a file under another name": (
        lambda folder: (folder / "README.md").rename(folder / "a"),
        [("missing", "README.md"), ("extra", "a")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("again", [False, True], ids=["as it was", "summed again"])
@pytest.mark.parametrize("name", TAMPERED)
def test_whatever_was_done_to_a_package_is_named(name: str, again: bool, signed: Path, pair: keys.Pair) -> None:
    tamper, faults = TAMPERED[name]
    tamper(signed)
    if again and name != "no signature":
        base_package.write_checksums(signed)
        faults = sorted([*faults, ("changed", "SHA256SUMS")], key=lambda fault: fault[1])
    assert sorted(found(signed, pair), key=lambda fault: fault[1]) == sorted(faults, key=lambda fault: fault[1])


def test_another_s_signature_is_no_signature(signed: Path, pair: keys.Pair, other: keys.Pair) -> None:
    assert found(signed, other) == [("wrongly signed", "model.sig")]
    signature.sign(signed, other.private)
    (fault,) = verification.verify(signed, pair.public).faults
    assert "another key" in fault.why


def bundle_of(folder: Path) -> Any:
    return json.loads((folder / SIGNATURE).read_bytes())


def resign(folder: Path, key: Path, change: Callable[[Any], object]) -> None:
    """Let the owner of ``key`` sign another statement."""
    bundle = bundle_of(folder)
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    change(statement)
    payload = json.dumps(statement).encode()
    kind = bundle["dsseEnvelope"]["payloadType"].encode()
    covered = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    sig = keys.private(key).sign(covered, ec.ECDSA(hashes.SHA256()))
    bundle["dsseEnvelope"] |= {
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"sig": base64.b64encode(sig).decode()}],
    }
    (folder / SIGNATURE).write_text(json.dumps(bundle))


STATEMENTS: dict[str, Callable[[Any], object]] = {
    "another type": lambda told: told.update(_type="https://in-toto.io/Statement/v0.1"),
    "the library's older form": lambda told: told.update(predicateType="https://model_signing/Digests/v0.1"),
    "another hash": lambda told: told["predicate"]["resources"][0].update(algorithm="md5"),
    "shards": lambda told: told["predicate"]["serialization"].update(method="shards"),
    "a digest that is none": lambda told: told["predicate"]["resources"][0].update(digest="0x"),
    "another sum of all": lambda told: told["subject"][0]["digest"].update(sha256="0" * 64),
    "no subject": lambda told: told.update(subject=[]),
    "no resources": lambda told: told["predicate"].pop("resources"),
    "in another order": lambda told: told["predicate"]["resources"].reverse(),
    "a file twice": lambda told: told["predicate"]["resources"].append(told["predicate"]["resources"][0]),
}


def test_a_statement_that_is_signed_anew_as_it_is_stays_right(signed: Path, pair: keys.Pair) -> None:
    """Else the tests below would see nothing but a signature that does not fit."""
    resign(signed, pair.private, lambda told: None)
    assert found(signed, pair) == []


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_of_another_form_is_refused(name: str, signed: Path, pair: keys.Pair) -> None:
    resign(signed, pair.private, STATEMENTS[name])
    (fault,) = verification.verify(signed, pair.public).faults
    assert (str(fault.kind), fault.file) == ("wrongly signed", "model.sig")
    assert fault.why.startswith("what it signs")


def test_what_a_signature_says_to_ignore_is_not_ignored(signed: Path, pair: keys.Pair) -> None:
    resign(signed, pair.private, lambda told: told["predicate"]["serialization"].update(ignore_paths=["evil"]))
    (signed / "evil").write_text("new")
    base_package.write_checksums(signed)
    assert ("extra", "evil") in found(signed, pair)


BUNDLES: dict[str, Callable[[Any], object]] = {
    "another media type": lambda bundle: bundle.update(mediaType="application/vnd.dev.sigstore.bundle.v0.2+json"),
    "another payload type": lambda bundle: bundle["dsseEnvelope"].update(payloadType="text/plain"),
    "a payload that is not base64": lambda bundle: bundle["dsseEnvelope"].update(payload="*"),
    "a payload cut": lambda bundle: bundle["dsseEnvelope"].update(payload=bundle["dsseEnvelope"]["payload"][:-4]),
    "no signature": lambda bundle: bundle["dsseEnvelope"].update(signatures=[]),
    "an empty signature": lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(sig=""),
    "two signatures": lambda bundle: bundle["dsseEnvelope"]["signatures"].append({"sig": "AAAA"}),
    "a certificate for a key": lambda bundle: bundle.update(verificationMaterial={"certificate": {"rawBytes": "AA=="}}),
    "another hint": lambda bundle: bundle["verificationMaterial"]["publicKey"].update(hint="0" * 64),
}


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_of_another_form_is_refused(name: str, signed: Path, pair: keys.Pair) -> None:
    bundle = bundle_of(signed)
    BUNDLES[name](bundle)
    (signed / SIGNATURE).write_text(json.dumps(bundle))
    assert found(signed, pair) == [("wrongly signed", "model.sig")]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"mediaType": NaN}', b" " * (9 << 20)]
)
def test_what_is_no_signature_is_refused(content: bytes, signed: Path, pair: keys.Pair) -> None:
    (signed / SIGNATURE).write_bytes(content)
    assert found(signed, pair) == [("wrongly signed", "model.sig")]


def test_a_package_that_is_not_whole_is_not_signed(package: Path, pair: keys.Pair) -> None:
    (package / "README.md").write_text("changed")
    with pytest.raises(CheckFailed, match=r"README\.md is changed"):
        signature.sign(package, pair.private)
    assert not (package / SIGNATURE).exists()


def test_what_changes_while_it_is_signed_is_not_signed(
    package: Path, pair: keys.Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faults(*given: object, **named: object) -> list[object]:
        (package / "README.md").write_text("another hand")
        return []

    monkeypatch.setattr(checksums, "faults", faults)
    with pytest.raises(CheckFailed, match=r"README\.md was changed while"):
        signature.sign(package, pair.private)
    assert not (package / SIGNATURE).exists()


def test_a_key_in_the_package_signs_nothing(package: Path) -> None:
    pair = keys.new(package / "one")
    with pytest.raises(BadUsage, match="lies in the package"):
        signature.sign(package, pair.private)


def test_where_the_disk_is_full_the_old_signature_stays(
    signed: Path, pair: keys.Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        signature.sign(signed, pair.private)
    assert found(signed, pair) == []

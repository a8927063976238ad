"""model.sig: a signature over every file of a package, as OpenSSF's model signing 1.0 has it.

A Sigstore bundle with a DSSE envelope around an in-toto statement, which lists each file's SHA-256:
https://github.com/ossf/model-signing-spec. The library model-signing writes it. It is judged here, by the signature
alone: the library leaves files alone that the signature says to ignore, and git's by default.
"""

import base64
import hashlib
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters import atomic_file
from toolchain import strict_json
from toolchain.errors import BadUsage, CheckFailed
from toolchain.shipping import checksums, keys
from toolchain.shipping.faults import Fault, Kind, differences
from toolchain.shipping.folder import File, files_in, read, sha256_of
from toolchain.shipping.package import SIGNATURE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

_MOST_BYTES = 8 * 2**20  # 10,000 files with long names take 4 MB
_TYPE = "application/vnd.in-toto+json"
_HEX = {"type": "string", "pattern": "^[0-9a-f]{64}$"}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


_BUNDLE = _object(
    mediaType={"const": "application/vnd.dev.sigstore.bundle.v0.3+json"},
    verificationMaterial=_object(publicKey={"type": "object", "properties": {"hint": {"type": "string"}}}),
    dsseEnvelope=_object(
        payload={"type": "string"},
        payloadType={"const": _TYPE},
        signatures={"type": "array", "minItems": 1, "maxItems": 1, "items": _object(sig={"type": "string"})},
    ),
)
_STATEMENT = _object(
    _type={"const": "https://in-toto.io/Statement/v1"},
    subject={"type": "array", "minItems": 1, "maxItems": 1, "items": _object(digest=_object(sha256=_HEX))},
    predicateType={"const": "https://model_signing/signature/v1.0"},
    predicate=_object(
        serialization=_object(method={"const": "files"}, hash_type={"const": "sha256"}),
        resources={
            "type": "array",
            "items": _object(name={"type": "string"}, algorithm={"const": "sha256"}, digest=_HEX),
        },
    ),
)


def sign(folder: Path, key: Path) -> str:
    """Sign the package in ``folder`` with the private key in the file ``key``: writes model.sig, or leaves the old one.

    Returns the key's fingerprint. Raises CheckFailed for files that are not those in SHA256SUMS, BadUsage for what is
    no key, and for one that lies in the package, ModuleNotFoundError without the extra ``sign``.
    """
    owner = keys.private(key)
    if key.resolve().is_relative_to(folder.resolve()):
        raise BadUsage(f"The private key {key} lies in the package.", "Take it out: whoever gets the package has it.")
    atomic_file.remove_leftovers(folder)
    files = files_in(folder)
    digests = {file.name: sha256_of(file) for file in files}
    for fault in checksums.faults(files, digests):
        raise CheckFailed(f"{folder} is not signed: {fault.file} is {fault.kind}, {fault.why}.", "Pack it again.")
    from model_signing import hashing, signing

    config = signing.Config().use_elliptic_key_signer(private_key=key)
    config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False))
    with tempfile.TemporaryDirectory(prefix="nnx-signature-") as place:
        config.sign(folder, Path(place) / SIGNATURE)
        signed = (Path(place) / SIGNATURE).read_bytes()
    listed = _signed(signed, owner.public_key())  # by the library, which has read the files again
    for fault in differences(listed, _without_own(digests), by="the signature"):
        raise CheckFailed(f"{fault.file} was {fault.kind} while {folder} was signed.", "Sign it again when it is done.")
    with atomic_file.staged(folder / SIGNATURE) as made:
        made.write_bytes(signed)
    return keys.fingerprint(owner.public_key())


def faults(files: Collection[File], digests: Mapping[str, str], trust: "EllipticCurvePublicKey") -> list[Fault]:
    """How ``files``, with their hex SHA-256s, differ from what ``trust`` has signed: none where all is well.

    Every file but the signature itself must be signed, whatever the signature says to ignore.
    """
    own = next((file for file in files if file.name == SIGNATURE), None)
    if own is None:
        return [Fault(kind=Kind.UNSIGNED, file=SIGNATURE, why="it is not there")]
    try:
        listed = _signed(read(own, most_bytes=_MOST_BYTES), trust)
    except ValueError as error:
        return [Fault(kind=Kind.WRONGLY_SIGNED, file=SIGNATURE, why=str(error))]
    return list(differences(listed, _without_own(digests), by="the signature"))


def _without_own(digests: Mapping[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in digests.items() if name != SIGNATURE}


def _signed(content: bytes, trust: "EllipticCurvePublicKey") -> dict[str, str]:
    """Name -> hex SHA-256, as ``trust`` has signed them; ValueError with a sentence where it has not."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        bundle = strict_json.parsed(content)
        strict_json.check(bundle, _BUNDLE)
        envelope = bundle["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
    except ValueError as error:
        raise ValueError("it is no signature of OpenSSF's model signing 1.0") from error
    hint = bundle["verificationMaterial"]["publicKey"].get("hint")
    if hint not in (None, "", keys.fingerprint(trust)):
        raise ValueError("it is signed with another key than the one that is trusted")
    # https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md
    covered = b"DSSEv1 %d %s %d %s" % (len(_TYPE), _TYPE.encode(), len(payload), payload)
    try:
        trust.verify(signature, covered, ec.ECDSA(_hash_for(trust)))
    except InvalidSignature as error:
        raise ValueError("what it says was not signed with the key that is trusted") from error
    return _listed(payload)


def _hash_for(key: "EllipticCurvePublicKey") -> "HashAlgorithm":
    from cryptography.hazmat.primitives import hashes

    return {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}[keys.hash_name(key)]


def _listed(payload: bytes) -> dict[str, str]:
    try:
        statement = strict_json.parsed(payload)
        strict_json.check(statement, _STATEMENT)
    except ValueError as error:
        raise ValueError(f"what it signs is not what model signing 1.0 signs: {error}") from error
    resources = statement["predicate"]["resources"]
    root = hashlib.sha256(b"".join(bytes.fromhex(each["digest"]) for each in resources)).hexdigest()
    listed = {each["name"]: each["digest"] for each in resources}
    if root != statement["subject"][0]["digest"]["sha256"] or len(listed) < len(resources):
        raise ValueError("what it signs contradicts itself")
    return listed

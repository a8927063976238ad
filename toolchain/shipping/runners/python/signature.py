"""Whether a package is what the owner of a key signed: ECDSA on P-256 over the SHA-256 of every file, by Python alone.

    python signature.py NAME.ortpackage release.pub

A copy of this file that came with the key judges packages from anywhere. The one inside a package judges what became of
it since somebody looked at it: whoever makes a package makes its programs too.
"""

import base64
import hashlib
import json
import re
import sys
from pathlib import Path

SUMS, SIGNATURE = "SHA256SUMS", "model.sig"
MOST_BYTES = 8 << 20

# P-256 (FIPS 186-5, SP 800-186): y^2 = x^3 - 3x + B over the integers modulo P; G has N multiples. All that is computed
# here is public, so that nothing needs to take as long for one number as for another.
P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
# what stands before a point in the DER of a public key: that it is one of an elliptic curve, P-256, and not compressed
PUBLIC = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")


def added(one, other):
    """The sum of two points; None is the one at infinity."""
    if one is None or other is None:
        return one or other
    (x, y), (u, v) = one, other
    if x == u and (y + v) % P == 0:
        return None
    slope = (3 * x * x - 3) * pow(2 * y, -1, P) if x == u else (v - y) * pow(u - x, -1, P)
    a = (slope * slope - x - u) % P
    return a, (slope * (x - a) - y) % P


def encoded(*numbers):
    """DER's sequence of these numbers, none of them negative."""
    parts = [number.to_bytes(number.bit_length() // 8 + 1, "big") for number in numbers]
    body = b"".join(bytes([2, len(part)]) + part for part in parts)
    return bytes([0x30, len(body)]) + body


def is_signed(message, signature, point):
    """Whether ``signature``, in DER, is one of ``message`` with SHA-256 by the owner of the public ``point``."""
    if not 8 <= len(signature) <= 72:
        return False
    end = 4 + signature[3]
    r, s = int.from_bytes(signature[4:end], "big"), int.from_bytes(signature[end + 2 :], "big")
    if not (0 < r < N and 0 < s < N) or encoded(r, s) != signature:  # DER has one way to write them
        return False
    inverse = pow(s, -1, N)
    one, other = int.from_bytes(hashlib.sha256(message).digest(), "big") * inverse % N, r * inverse % N
    total, parts = None, {(1, 0): G, (0, 1): point, (1, 1): added(G, point)}
    for bit in reversed(range(256)):  # one * G + other * point
        total = added(total, total)
        total = added(total, parts.get((one >> bit & 1, other >> bit & 1)))
    return total is not None and total[0] % N == r


def public_key(content):
    """(its point, its fingerprint), of what a .pub file holds. ValueError."""
    found = re.search(rb"-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----", content)
    der = base64.b64decode(found[1]) if found else b""
    x, y = int.from_bytes(der[27:59], "big"), int.from_bytes(der[59:], "big")
    if der[:27] != PUBLIC or len(der) != 91 or max(x, y) >= P or (y * y - x**3 + 3 * x - B) % P:
        raise ValueError("it holds no public key of P-256")
    text = base64.b64encode(der)  # as OpenSSL writes it, whatever stood around it
    pem = b"-----BEGIN PUBLIC KEY-----\n%s\n%s\n-----END PUBLIC KEY-----\n" % (text[:64], text[64:])
    return (x, y), hashlib.sha256(pem).hexdigest()


def signed(content, key):
    """Name -> hex SHA-256, as model.sig says and the owner of the ``key`` has signed. ValueError."""
    point, fingerprint = key
    try:
        bundle = strict(content)
        envelope = bundle["dsseEnvelope"]
        (only,) = envelope["signatures"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(only["sig"], validate=True)
        hint = bundle["verificationMaterial"]["publicKey"].get("hint", "")
        kinds = bundle["mediaType"], envelope["payloadType"]
        if kinds != ("application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.in-toto+json"):
            raise ValueError("of another kind")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError("it is no signature of OpenSSF's model signing 1.0") from error
    if hint not in ("", fingerprint):
        raise ValueError("it is signed with another key than the one that is trusted")
    kind = kinds[1].encode()
    # https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md
    if not is_signed(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload), signature, point):
        raise ValueError("what it says was not signed with the key that is trusted")
    return listed_in(payload)


def listed_in(payload):
    try:
        statement = strict(payload)
        (subject,), told = statement["subject"], statement["predicate"]
        how, files = told["serialization"], told["resources"]
        kinds = statement["_type"], statement["predicateType"], how["method"], how["hash_type"]
        listed = {each["name"]: each["digest"] for each in files if each["algorithm"] == "sha256"}
        right = ("https://in-toto.io/Statement/v1", "https://model_signing/signature/v1.0", "files", "sha256")
        if kinds != right or not all(re.fullmatch("[0-9a-f]{64}", each) for each in listed.values()):
            raise ValueError("of another kind")
        root = hashlib.sha256(b"".join(bytes.fromhex(each["digest"]) for each in files)).hexdigest()
        if root != subject["digest"]["sha256"] or len(listed) < len(files):
            raise ValueError("it contradicts itself")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError("what it signs is not what model signing 1.0 signs") from error
    return listed


def strict(content):
    def refuse(name):
        raise ValueError(name)

    try:
        return json.loads(content, parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def differing(folder, listed, besides):
    """What is wrong with each file in ``folder`` that is not as ``listed``, name -> SHA-256, nor one of those ``besides``."""
    paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    there = {path.relative_to(folder).as_posix(): path for path in paths}
    for name in sorted({*listed, *there} - {*besides}):
        if name not in there:
            yield f"missing: {name}"
        elif name not in listed:
            yield f"extra: {name}"
        elif there[name].is_symlink() or not there[name].is_file() or sha256_of(there[name]) != listed[name]:
            yield f"changed: {name}"


def sha256_of(path):
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def faults(folder, key):
    """How the files in ``folder`` differ from what the owner of the ``key`` signed: none where all is well."""
    place = folder / SIGNATURE
    if place.is_symlink() or not place.is_file():
        return [f"unsigned: {SIGNATURE}"]
    with place.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    try:
        if len(content) > MOST_BYTES:
            raise ValueError("it is too long")
        listed = signed(content, key)
    except ValueError as error:
        return [f"wrongly signed: {SIGNATURE}: {error}"]
    return list(differing(folder, listed, {SIGNATURE}))


def main(words):
    if len(words) != 2:
        sys.stderr.write("Usage: python signature.py NAME.ortpackage KEY.pub\n")
        return 2
    try:
        key = public_key(Path(words[1]).read_bytes())
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{words[1]} cannot be trusted: {error}. Give the public key that nnx keys new made.\n")
        return 2
    found = faults(Path(words[0]), key)
    sys.stdout.write("\n".join(found or [f"signed by {key[1]}"]) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The verdict on a package: whole, in good form, and signed by whom one trusts."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from toolchain.errors import BadUsage, CheckFailed
from toolchain.legible import legible
from toolchain.shipping import archive, checksums, keys, package_form, signature
from toolchain.shipping.bad_package import BadPackage
from toolchain.shipping.faults import Fault
from toolchain.shipping.folder import files_in, sha256_of
from toolchain.shipping.package import CHECKSUMS, SIGNATURE

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of it. ``sha256`` is that of SHA256SUMS, which stands for all files; None where there is none.

    ``signed_by`` is the fingerprint of the trusted key where it has signed all that is there; None where no key was
    given too, whatever signature there is.
    """

    package: str
    files: int
    size_bytes: int
    sha256: str | None
    signed_by: str | None
    has_signature: bool
    faults: tuple[Fault, ...]

    @property
    def sound(self) -> bool:
        return not self.faults

    def to_json(self) -> str:
        return json.dumps({"schema_version": SCHEMA_VERSION, "sound": self.sound, **asdict(self)}, indent=1)


def verify(package: Path, trust: Path | None = None) -> Verdict:
    """Look at every file of ``package``, a folder, .tar or .zip; with ``trust``, a public key, at its signature too.

    Raises BadPackage for what is not to be looked into: see :mod:`.folder` and :mod:`.archive`; BadUsage for what is
    not there, and for what is no key; ModuleNotFoundError for a key without the extra ``sign``.
    """
    key = None if trust is None else keys.public(trust)
    if not package.exists():
        raise BadUsage(f"There is no package {package}.", "Look at its name.")
    with archive.opened(package) as folder:
        files = {file.name: file for file in files_in(folder)}
        if not {package_form.MANIFEST, CHECKSUMS} & files.keys():
            raise BadPackage(package, f"is no package: it has no {CHECKSUMS} and no {package_form.MANIFEST}")
        digests = {name: sha256_of(file) for name, file in files.items()}
        faults = checksums.faults(files.values(), digests)
        if key is not None:
            named = {(fault.kind, fault.file) for fault in faults}
            signed = signature.faults(files.values(), digests, key)
            faults += [fault for fault in signed if (fault.kind, fault.file) not in named]
        if not faults:  # what is not as it was sent is not worth a look
            faults += package_form.faults(files)
    return Verdict(
        package=str(package),
        files=len(files),
        size_bytes=sum(file.size_bytes for file in files.values()),
        sha256=digests.get(CHECKSUMS),
        signed_by=None if key is None or faults else keys.fingerprint(key),
        has_signature=SIGNATURE in files,
        faults=tuple(faults),
    )


def lines(verdict: Verdict) -> list[str]:
    """For a person: a line a fault, or what was found right."""
    if verdict.faults:
        return [legible(f"{fault.kind}: {fault.file}: {fault.why}") for fault in verdict.faults]
    counted = f"{verdict.package}: {verdict.files} files, {verdict.size_bytes / 1e6:.3f} MB, as {CHECKSUMS} says"
    if verdict.signed_by is not None:
        return [counted, f"signed by {verdict.signed_by}"]
    if verdict.has_signature:
        return [counted, "its signature was not looked at: name the key that you trust with --trust"]
    return [counted, "not signed: anybody may have made it"]


def require(verdict: Verdict) -> None:
    """CheckFailed where something is wrong with it."""
    if verdict.faults:
        count = len(verdict.faults)
        what = f"{verdict.package} is not what it should be: {count} fault{'s' if count > 1 else ''}."
        raise CheckFailed(what, "Leave it, and ask its sender for a whole one.")

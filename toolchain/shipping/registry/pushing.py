"""From a package to a registry, where what is there already is not sent again."""

from dataclasses import dataclass
from pathlib import Path

from toolchain.errors import BadUsage, CheckFailed
from toolchain.progress import SILENT, Progress
from toolchain.shipping import archive, verification
from toolchain.shipping.registry import client, model_pack
from toolchain.shipping.registry.address import Address

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """``digest`` is where ``target``'s tag leads now, ``before`` where it led, None for a new tag."""

    target: str
    digest: str
    before: str | None
    sent_bytes: int
    package_bytes: int


def push(
    package: Path,
    address: Address,
    *,
    trust: Path | None = None,
    plain_http: bool = False,
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> Pushed:
    """Bring ``package``, a folder, .tar or .zip, to a registry as a ModelPack; with ``dry_run`` see what it would take.

    Nothing is sent of a package that is not whole, in good form and, with ``trust``, signed by that key: CheckFailed.
    Raises BadPackage and BadUsage as :func:`.verification.verify` does, and what :class:`.client.Repository` raises.
    """
    if address.tag is None or address.digest is not None:
        raise BadUsage(f"{address} is no tag to push to.", "Name one; the digest is what comes of it.")
    if not package.exists():
        raise BadUsage(f"There is no package {package}.", "Look at its name.")
    with archive.opened(package) as folder:
        verdict = verification.verify(folder, trust)
        for fault in verdict.faults:
            what = f"{package} is not sent: {fault.file} is {fault.kind}, {fault.why}."
            raise CheckFailed(what, f"Look at it with `nnx verify {package}`.")
        pack = model_pack.of(folder)
        with client.Repository(address, plain_http=plain_http) as repository:
            before = repository.digest_at(address.tag)
            missing = [blob for blob in pack.blobs if not repository.has(blob.digest)]
            due = sum(blob.size_bytes for blob in missing)
            if not dry_run:
                with progress.bar("send", due) as bar:
                    for blob in missing:
                        repository.send(blob, bar.advance)
                repository.tag(address.tag, pack.manifest)
    return Pushed(
        target=str(address),
        digest=client.digest_of(pack.manifest),
        before=before,
        sent_bytes=due,
        package_bytes=sum(blob.size_bytes for blob in pack.blobs),
    )


def line(pushed: Pushed, *, did: str) -> str:
    """For a person."""
    moved = f"; before that the tag led to {pushed.before}" if pushed.before not in (None, pushed.digest) else ""
    sizes = f"{pushed.sent_bytes / 1e6:.3f} of {pushed.package_bytes / 1e6:.3f} MB"
    return f"{pushed.target}: {did}, {sizes}\n{pushed.digest}{moved}"

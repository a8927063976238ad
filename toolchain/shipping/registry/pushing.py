"""From a package to a registry, where what is there already is not sent again."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from toolchain.errors import BadUsage
from toolchain.progress import SILENT, Progress
from toolchain.shipping import sending
from toolchain.shipping.registry import client, model_pack, modelcar
from toolchain.shipping.registry.address import Address
from toolchain.shipping.registry.client import Blob, Repository

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
    base: Address | None = None,
    trust: Path | None = None,
    plain_http: bool = False,
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> Pushed:
    """Bring ``package``, a folder, .tar or .zip, to a registry as a ModelPack; with ``dry_run`` see what it would take.

    With ``base``, an image with a shell, it becomes one for KServe on top of that: see :mod:`.modelcar`.

    Nothing is sent of a package that is not whole, in good form and, with ``trust``, signed by that key: CheckFailed.
    Raises BadPackage and BadUsage as :func:`.verification.verify` does, and what :class:`.client.Repository` raises.
    """
    if address.tag is None or address.digest is not None:
        raise BadUsage(f"{address} is no tag to push to.", "Name one; the digest is what comes of it.")
    with sending.verified(package, trust) as folder, ExitStack() as opened:
        repository = opened.enter_context(Repository(address, plain_http=plain_http))
        beside = base is not None and base.registry == address.registry
        if base is None:
            pack = model_pack.of(folder)
        else:
            source = opened.enter_context(Repository(base, plain_http=plain_http and beside))
            pack = modelcar.of(folder, source, base.digest or base.tag or "")
        before = repository.digest_at(address.tag)
        missing = [blob for blob in (*pack.blobs, *pack.from_base) if not repository.has(blob.digest)]
        if not dry_run:
            if base is not None and beside:
                missing = [
                    blob for blob in missing
                    if blob not in pack.from_base or not repository.take_over(blob.digest, base.repository)
                ]  # fmt: skip
            with progress.bar("send", _size(missing)) as bar:
                for blob in missing:
                    repository.send(blob, bar.advance)
            for part in pack.parts:
                repository.put(client.digest_of(part), part)
            repository.put(address.tag, pack.manifest, pack.media_type)
    return Pushed(
        target=str(address),
        digest=client.digest_of(pack.manifest),
        before=before,
        sent_bytes=_size(missing),
        package_bytes=_size((*pack.blobs, *pack.from_base)),
    )


def _size(blobs: Sequence[Blob]) -> int:
    return sum(blob.size_bytes for blob in blobs)


def line(pushed: Pushed, *, did: str) -> str:
    """For a person."""
    moved = f"; before that the tag led to {pushed.before}" if pushed.before not in (None, pushed.digest) else ""
    sizes = f"{pushed.sent_bytes / 1e6:.3f} of {pushed.package_bytes / 1e6:.3f} MB"
    return f"{pushed.target}: {did}, {sizes}\n{pushed.digest}{moved}"

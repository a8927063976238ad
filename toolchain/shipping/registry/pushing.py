"""From a package to a registry, where what is there already is not sent again."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from toolchain.errors import BadUsage
from toolchain.progress import SILENT, Progress
from toolchain.shipping import package as packages
from toolchain.shipping import sending
from toolchain.shipping.registry import client, model_pack, modelcar
from toolchain.shipping.registry.address import Address
from toolchain.shipping.registry.client import Blob, Repository
from toolchain.shipping.registry.model_pack import Pack

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
    _require_tag(address)
    with sending.verified(package, trust) as folder, ExitStack() as opened:
        if base is None:
            pack = model_pack.of(folder)
        else:
            source = opened.enter_context(_base(base, address, plain_http))
            pack = modelcar.of(folder, source, _reference(base), model_pack.annotations(packages.read(folder)))
        return _push(pack, address, base, plain_http=plain_http, dry_run=dry_run, progress=progress)


def push_models(
    folder: Path,
    address: Address,
    base: Address,
    *,
    title: str,
    version: str,
    plain_http: bool = False,
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> Pushed:
    """Bring an engine's models, as they lie in ``folder``, to a registry as an image for KServe: see :mod:`.modelcar`.

    Raises BadPackage for links and names that lead elsewhere, and what :class:`.client.Repository` raises.
    """
    _require_tag(address)
    told = {"org.opencontainers.image.title": title, "org.opencontainers.image.version": version}
    with _base(base, address, plain_http) as source:
        pack = modelcar.of(folder, source, _reference(base), told)
        return _push(pack, address, base, plain_http=plain_http, dry_run=dry_run, progress=progress)


def _push(
    pack: Pack, address: Address, base: Address | None, *, plain_http: bool, dry_run: bool, progress: Progress
) -> Pushed:
    with Repository(address, plain_http=plain_http) as repository:
        before = repository.digest_at(address.tag or "")
        missing = [blob for blob in (*pack.blobs, *pack.from_base) if not repository.has(blob.digest)]
        if not dry_run:
            if base is not None and base.registry == address.registry:
                missing = [
                    blob for blob in missing
                    if blob not in pack.from_base or not repository.take_over(blob.digest, base.repository)
                ]  # fmt: skip
            with progress.bar("send", _size(missing)) as bar:
                for blob in missing:
                    repository.send(blob, bar.advance)
            for part in pack.parts:
                repository.put(client.digest_of(part), part)
            repository.put(address.tag or "", pack.manifest, pack.media_type)
    return Pushed(
        target=str(address),
        digest=client.digest_of(pack.manifest),
        before=before,
        sent_bytes=_size(missing),
        package_bytes=_size((*pack.blobs, *pack.from_base)),
    )


def _require_tag(address: Address) -> None:
    if address.tag is None or address.digest is not None:
        raise BadUsage(f"{address} is no tag to push to.", "Name one; the digest is what comes of it.")


def _base(base: Address, address: Address, plain_http: bool) -> Repository:
    return Repository(base, plain_http=plain_http and base.registry == address.registry)


def _reference(base: Address) -> str:
    return base.digest or base.tag or ""


def _size(blobs: Sequence[Blob]) -> int:
    return sum(blob.size_bytes for blob in blobs)


def line(pushed: Pushed, *, did: str) -> str:
    """For a person."""
    moved = f"; before that the tag led to {pushed.before}" if pushed.before not in (None, pushed.digest) else ""
    sizes = f"{pushed.sent_bytes / 1e6:.3f} of {pushed.package_bytes / 1e6:.3f} MB"
    return f"{pushed.target}: {did}, {sizes}\n{pushed.digest}{moved}"

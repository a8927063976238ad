"""From a registry to a package: fetched, looked at as any that a stranger sent, and then given its name."""

import contextlib
import dataclasses
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporters import file_lock
from toolchain import regular_file
from toolchain.errors import BadUsage, CheckFailed, NotAvailable
from toolchain.progress import SILENT, Progress
from toolchain.shipping import checksums, keys, package, staged_folder, verification
from toolchain.shipping.package import CHECKSUMS, SUFFIX
from toolchain.shipping.registry import client, model_pack
from toolchain.shipping.registry.address import Address
from toolchain.shipping.registry.client import Repository
from toolchain.shipping.registry.connections import Broken
from toolchain.shipping.registry.model_pack import Layer
from toolchain.shipping.verification import Verdict

SCHEMA_VERSION = 1
_CHUNK_BYTES = 2**20
_TRIES, _PAUSE_S = 5, 0.5


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """The package in ``folder``, by the ``digest`` of its manifest; ``fetched_bytes`` were not there yet."""

    source: str
    digest: str
    folder: Path
    fetched_bytes: int
    verdict: Verdict


def folder_for(address: Address) -> Path:
    """Where it goes if nobody says: by the last part of the repository's name."""
    return Path(address.repository.rpartition("/")[2].removesuffix(SUFFIX) + SUFFIX)


def pull(
    address: Address,
    output: Path,
    *,
    trust: Path | None = None,
    plain_http: bool = False,
    progress: Progress = SILENT,
) -> Pulled:
    """Leave the package ``output``, in the place of one that is there, or leave all as it was.

    An address with both a tag and a digest is pulled by the digest, and only while the tag leads there: CheckFailed.
    What is not as the manifest says, not whole or, with ``trust``, not signed by that key is CheckFailed too;
    BadPackage is for names that lead elsewhere, BadUsage for what is no package. What has arrived of a pull that broke
    off waits in ``.NAME.arrived`` for the next one; files of an older package in ``output`` are not fetched again.
    """
    package.require_replaceable(output)
    if trust is not None:
        keys.public(trust)  # what is no key, before the work
    with Repository(address, plain_http=plain_http) as repository:
        manifest = repository.manifest(address.digest or address.tag or "")
        digest = client.digest_of(manifest)
        if address.tag and address.digest and (now := repository.digest_at(address.tag)) != digest:
            what = f"The tag {address.tag} leads to {now or 'nothing'} by now."
            raise CheckFailed(what, "Pull by the digest alone, or see who moved the tag.")
        layers = model_pack.layers(manifest, str(address))
        with _arrivals(output) as place:
            fetched = _fetch(repository, layers, place, _known(output), progress)
            verdict = _put_together(layers, place, output, trust, str(address))
    return Pulled(source=str(address), digest=digest, folder=output, fetched_bytes=fetched, verdict=verdict)


def lines(pulled: Pulled) -> list[str]:
    """For a person."""
    fetched = f"{pulled.source}: {pulled.fetched_bytes / 1e6:.3f} MB fetched\n{pulled.digest}"
    return [fetched, *verification.lines(pulled.verdict)]


@contextlib.contextmanager
def _arrivals(output: Path) -> Iterator[Path]:
    """A folder for what arrives, by its SHA-256; it stays when the block fails, and goes when it is done."""
    place = output.with_name(f".{output.name}.arrived")
    handle = _locked(place, output)
    try:
        yield place
        shutil.rmtree(place)
    finally:
        with contextlib.suppress(OSError):  # not empty, when anything arrived
            place.rmdir()
        os.close(handle)


def _locked(place: Path, output: Path) -> int:
    """The folder, which is made, open for us alone."""
    while True:
        if place.is_symlink():
            raise BadUsage(f"{place} is a link.", "Remove it.")
        place.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another pull has just ended, and removed it
            handle = os.open(place, os.O_RDONLY)
            taken = file_lock.take(handle)
            if taken is not file_lock.HELD and file_lock.same_file(handle, place):
                return handle
            os.close(handle)
            if taken is file_lock.HELD:
                raise NotAvailable(f"Another pull to {output} is at work.", "Wait until it has ended.")


def _known(output: Path) -> Mapping[str, Path]:
    """Digest -> file of the package that is there, as far as it says itself."""
    try:
        listed = checksums.parsed(regular_file.read_bytes(output / CHECKSUMS))
    except (ValueError, OSError):
        return {}
    return {f"sha256:{digest}": output / name for name, digest in listed.items()}


def _fetch(
    repository: Repository, layers: Sequence[Layer], place: Path, known: Mapping[str, Path], progress: Progress
) -> int:
    """Bring all that is missing to ``place``; how many bytes were fetched."""
    missing = {layer.digest: layer for layer in layers if not _is_whole(place / _name(layer), _name(layer))}
    arrived = sum(path.stat().st_size for path in place.glob("*.part"))
    needed, free = sum(layer.size_bytes for layer in missing.values()) - arrived, shutil.disk_usage(place).free
    if needed > free:
        what = f"The package takes {needed / 1e6:.1f} MB more, and {free / 1e6:.1f} are free."
        raise NotAvailable(what, "Free some space, or choose another folder.")
    fetched = 0
    with progress.bar("fetch", needed) as bar:

        def came(count: int) -> None:
            nonlocal fetched
            fetched += count
            bar.advance(count)

        for layer in missing.values():
            if not _taken_over(layer, known.get(layer.digest), place):
                _fetch_one(repository, layer, place, came)
    return fetched


def _is_whole(path: Path, sha256: str) -> bool:
    """Whether it is there and what it should be: since an earlier pull the machine may have gone down."""
    try:
        with regular_file.opened(path, through_links=False) as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == sha256
    except (OSError, BadUsage):  # not there, or a link or a pipe by now
        return False


def _name(layer: Layer) -> str:
    return layer.digest.removeprefix("sha256:")


def _taken_over(layer: Layer, source: Path | None, place: Path) -> bool:
    """Whether it could be had of the package that is there, whose file it then is too until that one goes."""
    if source is None or not _is_whole(source, _name(layer)):
        return False
    try:
        os.link(source, place / _name(layer), follow_symlinks=False)
    except OSError:  # a file system without links
        return False
    return True


def _fetch_one(repository: Repository, layer: Layer, place: Path, came: Callable[[int], None]) -> None:
    """Fetch a file, from where a former try broke off; ``came`` hears of every byte."""
    part, left = place / f"{_name(layer)}.part", _TRIES
    had = _size(part)
    while True:
        before = _size(part)
        try:
            _go_on(repository, layer, part, came)
            break
        except Broken:
            left = _TRIES if _size(part) > before else left - 1
            if not left:
                raise
            time.sleep(_PAUSE_S)
    if _is_whole(part, _name(layer)):
        part.rename(place / _name(layer))
        return
    part.unlink()
    if not had:
        what = f"{layer.name} is not what its manifest says."
        raise CheckFailed(what, "Do not use it, and tell who keeps the registry.")
    _fetch_one(repository, layer, place, came)  # what was there was not right


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _go_on(repository: Repository, layer: Layer, part: Path, came: Callable[[int], None]) -> None:
    """Fetch what ``part`` does not hold yet. Raises Broken."""
    start = _size(part)
    if start and start == layer.size_bytes:
        return
    if start > layer.size_bytes:
        part.unlink()
        start = 0
    with repository.blob(layer.digest, start) as (response, begins), part.open("r+b" if start else "wb") as made:
        made.truncate(begins)
        made.seek(begins)
        for piece in _pieces(response.read, layer.size_bytes - begins):
            made.write(piece)
            came(len(piece))
        if made.tell() < layer.size_bytes:
            raise Broken(f"{layer.name} broke off.", "Pull again: what has arrived is not fetched again.")
        if response.read(1):
            raise CheckFailed(f"{layer.name} is larger than its manifest says.", "Do not use it.")


def _pieces(read: Callable[[int], bytes], size: int) -> Iterable[bytes]:
    while size and (piece := read(min(_CHUNK_BYTES, size))):
        yield piece
        size -= len(piece)


def _put_together(layers: Sequence[Layer], place: Path, output: Path, trust: Path | None, named: str) -> Verdict:
    """The package of what arrived, which is gone then, whatever comes of it."""
    last = {layer.digest: layer.name for layer in layers}
    with staged_folder.staged(output) as folder:
        for layer in layers:
            file = folder / layer.name
            file.parent.mkdir(parents=True, exist_ok=True)
            if last[layer.digest] == layer.name:
                (place / _name(layer)).rename(file)
            else:
                shutil.copyfile(place / _name(layer), file)
        verdict = verification.verify(folder, trust)
        for fault in verdict.faults:
            what = f"{named} is not what it should be: {fault.file} is {fault.kind}, {fault.why}."
            raise CheckFailed(what, "Leave it, and ask its sender for a whole one.")
    return dataclasses.replace(verdict, package=str(output))

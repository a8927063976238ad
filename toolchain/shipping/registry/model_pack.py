"""A package as CNCF's ModelPack: a manifest whose layers are the package's files, as they are.

https://github.com/modelpack/model-spec. One layer a file, whatever its size: a layer's digest is then what SHA256SUMS
says of the file, a second push sends the files that changed and nothing else, whoever has SHA256SUMS can ask for each
file by its SHA-256, and nothing is packed that would have to be unpacked safely. Nothing in it tells when it was made,
so the same package has the same digest everywhere.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from toolchain import strict_json
from toolchain.errors import BadUsage
from toolchain.shipping import checksums, names, package, reproducible_tar
from toolchain.shipping.bad_package import BadPackage
from toolchain.shipping.folder import File, files_in, read, sha256_of
from toolchain.shipping.package import CARD, CHECKSUMS, GOLDEN_ARRAYS, SIGNATURE, Package
from toolchain.shipping.registry.client import MANIFEST, Blob, blob_of

ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
CONFIG = "application/vnd.cncf.model.config.v1+json"
_LAYER = "application/vnd.cncf.model.{kind}.v1.raw"
_PATH = "org.cncf.model.filepath"
_TITLE = "org.opencontainers.image.title"
"""By which ``oras pull`` names files."""
_MOST_LIST_BYTES = 4 * 2**20
DIGEST = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
SIZE = {"type": "integer", "minimum": 0, "maximum": 2**53}
_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["schemaVersion", "config", "layers"],
    "properties": {
        "schemaVersion": {"const": 2},
        "artifactType": {"const": ARTIFACT},
        "config": {
            "type": "object",
            "required": ["mediaType", "digest", "size"],
            "properties": {"mediaType": {"const": CONFIG}, "digest": DIGEST, "size": SIZE},
        },
        "layers": {
            "type": "array",
            "minItems": 1,
            "maxItems": names.MOST,
            "items": {
                "type": "object",
                "required": ["mediaType", "digest", "size", "annotations"],
                "properties": {
                    "mediaType": {"type": "string", "pattern": r"^application/vnd\.cncf\.model\.[a-z.]+\.v1\.raw$"},
                    "digest": DIGEST,
                    "size": SIZE,
                    "annotations": {"type": "object", "required": [_PATH], "properties": {_PATH: {"type": "string"}}},
                },
            },
        },
    },
}


@dataclass(frozen=True)
class Layer:
    """A file of a package, as a manifest has it."""

    name: str
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class Pack:
    """What a package is in a registry: ``blobs``, each once, configurations among them, and the ``manifest``.

    Of an image it may be an index, of the manifests ``parts``; ``from_base`` are blobs that another repository has.
    """

    manifest: bytes
    blobs: tuple[Blob, ...]
    media_type: str = MANIFEST
    parts: tuple[bytes, ...] = ()
    from_base: tuple[Blob, ...] = ()


def of(folder: Path) -> Pack:
    """The package in ``folder``, whose files are taken to be those in its SHA256SUMS."""
    files = files_in(folder)
    described = package.read(folder)
    digests = _digests(files)
    layers = [_descriptor(_LAYER.format(kind=_kind(file.name, described)), file, digests[file.name]) for file in files]
    config = blob_of(as_json(_config(described, [layer["digest"] for layer in layers])))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": ARTIFACT,
        "config": {"mediaType": CONFIG, "digest": config.digest, "size": config.size_bytes},
        "layers": layers,
        "annotations": annotations(described),
    }
    blobs = {blob.digest: blob for blob in (config, *(_blob(file, digests[file.name]) for file in files))}
    return Pack(as_json(manifest), tuple(blobs.values()))


def layers(manifest: bytes, named: str) -> tuple[Layer, ...]:
    """The files of a package whose manifest this is.

    BadUsage for what is another kind of thing, BadPackage for names that no package has.
    """
    try:
        found = strict_json.parsed(manifest)
        strict_json.check(found, _FORM)
    except ValueError as error:
        what = f"{named} is no package that `nnx push` made: in its manifest {str(error).removeprefix('it ')}."
        raise BadUsage(what, "Look at its name; images and other kinds of models are not pulled.") from error
    taken, listed = names.Names(), list[Layer]()
    for layer in found["layers"]:
        name = layer["annotations"][_PATH]
        try:
            taken.add(name)
        except ValueError as error:
            raise BadPackage(named, str(error)) from error
        listed.append(Layer(name, layer["digest"], layer["size"]))
    return tuple(listed)


def _digests(files: Sequence[File]) -> dict[str, str]:
    """Name -> hex SHA-256 of every file, from the list of them; of the two that it does not list by reading them."""
    own = next(file for file in files if file.name == CHECKSUMS)
    listed = checksums.parsed(read(own, most_bytes=_MOST_LIST_BYTES))
    return {file.name: listed[file.name] if file.name in listed else sha256_of(file) for file in files}


def _descriptor(media_type: str, file: File, digest: str) -> dict[str, Any]:
    named = {_PATH: file.name, _TITLE: file.name}
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": file.size_bytes, "annotations": named}


def _blob(file: File, digest: str) -> Blob:
    return Blob(f"sha256:{digest}", file.size_bytes, partial(reproducible_tar.content, file))


def weights(described: Package) -> set[str]:
    """The names of the models' files, and of those that hold their weights."""
    found = {place for each in described.variants for place in (each.model, each.ort_file) if place}
    return found | {place for each in described.variants for place in each.external_data.values()}


def _kind(name: str, described: Package) -> str:
    if name in weights(described):
        return "weight"
    if name.startswith("runners/"):
        return "code"
    if name in (CARD, CHECKSUMS, SIGNATURE):
        return "doc"
    return "dataset" if name == GOLDEN_ARRAYS else "weight.config"


def _config(described: Package, digests: Sequence[str]) -> dict[str, Any]:
    """``precision`` and ``quantization`` are those of the variant that a device takes first."""
    precision, _, technique = described.variants[0].precision.partition("-")
    about = {"name": described.name, "version": described.version}
    technical = {"format": "onnx", "precision": precision} | ({"quantization": technique} if technique else {})
    licences = {"licenses": [described.licence]} if described.licence else {}
    return {
        "descriptor": {**about, **licences},
        "config": technical,
        "modelfs": {"type": "layers", "diffIds": list(digests)},
    }


def annotations(described: Package) -> dict[str, str]:
    """https://github.com/opencontainers/image-spec/blob/main/annotations.md; nothing that tells when."""
    told = {"title": described.name, "version": described.version, "licenses": described.licence}
    return {f"org.opencontainers.image.{name}": value for name, value in told.items() if value}


def as_json(content: Mapping[str, Any]) -> bytes:
    """The same bytes for the same content."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()

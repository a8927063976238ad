"""An image that KServe mounts as a "modelcar": files below /models, on top of a base that has a shell.

KServe runs `sh`, `ln` and `sleep` of the image beside the model's server, and links its /models to /mnt/models:
https://kserve.github.io/website/docs/model-serving/storage/providers/oci. Each large file is a layer, so that versions
share those that did not change, and all that is small is one. Nothing in the layers tells when or by whom it was made:
the same files on the same base have the same digest.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolchain import strict_json
from toolchain.errors import BadUsage
from toolchain.shipping import reproducible_tar
from toolchain.shipping.folder import File, files_in
from toolchain.shipping.registry.client import INDEX, MANIFEST, Blob, Repository, blob_of
from toolchain.shipping.registry.model_pack import DIGEST, SIZE, Pack, as_json

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
ROOT = "models"
_LARGE_BYTES, _MOST_ALONE = 2**20, 64
"""What is a layer of its own, and how many are: container runtimes take 127 layers."""
_MOST_BASE_LAYERS = 60
_CHUNK_BYTES = 2**20
_MOST_CONFIG_BYTES = 4 * 2**20
_OCI_NAMES = {
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{LAYER}+gzip",
    "application/vnd.docker.image.rootfs.diff.tar": LAYER,
}
"""What docker calls the same thing."""
_DESCRIPTOR: dict[str, Any] = {
    "type": "object",
    "required": ["mediaType", "digest", "size"],
    "properties": {"mediaType": {"type": "string"}, "digest": DIGEST, "size": SIZE},
}
_IMAGE: dict[str, Any] = {
    "type": "object",
    "required": ["schemaVersion", "config", "layers"],
    "properties": {
        "schemaVersion": {"const": 2},
        "config": _DESCRIPTOR,
        "layers": {"type": "array", "minItems": 1, "maxItems": _MOST_BASE_LAYERS, "items": _DESCRIPTOR},
    },
}
_PLATFORM = {
    "type": "object",
    "required": ["os", "architecture"],
    "properties": {"os": {"type": "string"}, "architecture": {"type": "string"}},
}
_LIST: dict[str, Any] = {
    "type": "object",
    "required": ["schemaVersion", "manifests"],
    "properties": {
        "manifests": {
            "type": "array",
            "maxItems": 100,
            "items": _DESCRIPTOR | {"properties": _DESCRIPTOR["properties"] | {"platform": _PLATFORM}},
        }
    },
}
_CONFIGURATION: dict[str, Any] = {
    "type": "object",
    "required": ["architecture", "os", "rootfs"],
    "properties": {
        "architecture": {"type": "string"},
        "os": {"const": "linux"},
        "rootfs": {
            "type": "object",
            "required": ["type", "diff_ids"],
            "properties": {"type": {"const": "layers"}, "diff_ids": {"type": "array", "items": DIGEST}},
        },
        "history": {"type": "array", "items": {"type": "object"}},
    },
}


@dataclass(frozen=True)
class _Base:
    """An image for one kind of processor: ``platform`` is what an index says of it."""

    platform: Mapping[str, Any]
    configuration: Mapping[str, Any]
    layers: Sequence[Mapping[str, Any]]


def of(folder: Path, base: Repository, reference: str, annotations: Mapping[str, str]) -> Pack:
    """What lies in ``folder`` on top of an image, for each kind of processor that this is there for.

    BadUsage for a base that is no image for Linux.
    """
    own = _layers(folder)
    bases, is_index = _bases(base, reference)
    configurations, parts, entries = list[Blob](), list[bytes](), list[dict[str, Any]]()
    for each in bases:
        configuration = blob_of(as_json(_configuration(each.configuration, own)))
        layers = [*each.layers, *({"mediaType": LAYER, "digest": one.digest, "size": one.size_bytes} for one in own)]
        described = {"mediaType": CONFIG, "digest": configuration.digest, "size": configuration.size_bytes}
        content = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers}
        part = as_json(content | {"annotations": dict(annotations)})
        parts.append(part)
        configurations.append(configuration)
        made = blob_of(part)
        entries.append(
            {"mediaType": MANIFEST, "digest": made.digest, "size": made.size_bytes, "platform": each.platform}
        )
    from_base = {layer["digest"]: _from(base, layer) for each in bases for layer in each.layers}
    blobs = {blob.digest: blob for blob in (*own, *configurations)}
    if not is_index:
        return Pack(parts[0], tuple(blobs.values()), from_base=tuple(from_base.values()))
    index = as_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    return Pack(index, tuple(blobs.values()), INDEX, tuple(parts), tuple(from_base.values()))


# --- the base


def _bases(base: Repository, reference: str) -> tuple[list[_Base], bool]:
    top = _parsed(base.manifest(reference), reference)
    if "manifests" not in top:
        return [_base(base, top, {})], False
    _check(top, _LIST, reference)
    images = [each for each in top["manifests"] if each.get("platform", {}).get("os") == "linux"]
    if not images:
        raise BadUsage(f"{reference} has no image for Linux.", "Name another base.")
    return [
        _base(base, _parsed(base.manifest(each["digest"]), each["digest"]), each["platform"]) for each in images
    ], True


def _base(base: Repository, manifest: Any, platform: Mapping[str, Any]) -> _Base:
    _check(manifest, _IMAGE, "its manifest")
    digest = manifest["config"]["digest"]
    configuration = _parsed(base.content(digest, most_bytes=_MOST_CONFIG_BYTES), digest)
    _check(configuration, _CONFIGURATION, "its configuration")
    layers = [
        {"mediaType": _OCI_NAMES.get(layer["mediaType"], layer["mediaType"]), **_kept(layer)}
        for layer in manifest["layers"]
    ]
    if len(layers) != len(configuration["rootfs"]["diff_ids"]):
        raise BadUsage("The base's layers are not those that its configuration counts.", "Name another base.")
    return _Base(platform, configuration, layers)


def _kept(layer: Mapping[str, Any]) -> dict[str, Any]:
    return {"digest": layer["digest"], "size": layer["size"]}


def _parsed(content: bytes, named: str) -> Any:
    try:
        found = strict_json.parsed(content)
    except ValueError as error:
        raise BadUsage(f"{named} is no image: {error}.", "Name another base.") from error
    _check(found, {"type": "object"}, named)
    return found


def _check(value: Any, schema: Mapping[str, Any], named: str) -> None:
    try:
        strict_json.check(value, schema)
    except ValueError as error:
        what = f"The base is no image for Linux: of {named} {str(error).removeprefix('it ')}."
        raise BadUsage(what, "Name another base, such as busybox.") from error


def _from(base: Repository, layer: Mapping[str, Any]) -> Blob:
    """A layer of the base, which goes from one registry into the other."""

    def pieces(start: int) -> Iterator[bytes]:
        with base.blob(layer["digest"], start) as (response, begins):
            response.read(start - begins)
            left = layer["size"] - start
            while left and (piece := response.read(min(left, _CHUNK_BYTES))):
                yield piece
                left -= len(piece)

    return Blob(layer["digest"], layer["size"], pieces)


def _configuration(base: Mapping[str, Any], own: Sequence[Blob]) -> dict[str, Any]:
    made = [{"created_by": f"nnx push --modelcar: /{ROOT}"} for _ in own]
    rootfs = {"type": "layers", "diff_ids": [*base["rootfs"]["diff_ids"], *(layer.digest for layer in own)]}
    return {**base, "rootfs": rootfs, "history": [*base.get("history", []), *made]}


# --- the files


def _layers(folder: Path) -> list[Blob]:
    """The large ones first; the last layer holds all that is small, which changes most."""
    files = files_in(folder)
    large = sorted(files, key=lambda file: -file.size_bytes)[:_MOST_ALONE]
    alone = [file for file in files if file in large and file.size_bytes >= _LARGE_BYTES]
    rest = [file for file in files if file not in alone]
    return [_layer(group) for group in [*([file] for file in alone), rest] if group]


def _layer(files: Sequence[File]) -> Blob:
    digest, size = hashlib.sha256(), 0
    for piece in reproducible_tar.pieces(files, ROOT):
        digest.update(piece)
        size += len(piece)

    def pieces(start: int) -> Iterator[bytes]:
        left = start
        for piece in reproducible_tar.pieces(files, ROOT):
            if left < len(piece):
                yield piece[left:]
            left = max(0, left - len(piece))

    return Blob(f"sha256:{digest.hexdigest()}", size, pieces)

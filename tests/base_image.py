"""An image with a shell, as others are built on, in a registry: busybox, for one kind of processor or several."""

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from toolchain.progress import Bar
from toolchain.shipping.registry import client
from toolchain.shipping.registry.address import Address
from toolchain.shipping.registry.client import INDEX, MANIFEST

CONFIG = "application/vnd.oci.image.config.v1+json"
PROCESSORS = ("amd64", "arm64")


def busybox() -> bytes:
    found = shutil.which("busybox")
    if (
        found is None
        or b"interpreter" in subprocess.run(["file", "-L", found], capture_output=True, check=False).stdout
    ):
        pytest.skip("no static busybox here: Debian's busybox-static has one")
    return Path(found).read_bytes()


def base_layer() -> bytes:
    """Busybox and what it is called, packed by gzip as base images are."""
    made, content = io.BytesIO(), busybox()
    with tarfile.open(fileobj=made, mode="w") as archive:
        program = tarfile.TarInfo("bin/busybox")
        program.size, program.mode = len(content), 0o755
        archive.addfile(program, io.BytesIO(content))
        for name in ("sh", "ln", "sleep", "ls", "test"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        for name in ("mnt", "proc"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
    return made.getvalue()


def put(place: Address, *, processors: tuple[str, ...] = PROCESSORS) -> None:
    """An index of an image for each of the processors; the image itself where there is one."""
    layer = base_layer()
    packed = client.blob_of(gzip.compress(layer, mtime=0))
    entries = []
    with client.Repository(place) as repository:
        repository.send(packed, Bar().advance)
        for name in processors:
            configuration = {
                "architecture": name, "os": "linux", "created": "2026-01-01T00:00:00Z", "config": {"Cmd": ["sh"]},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
                "history": [{"created_by": "busybox"}],
            }  # fmt: skip
            config = client.blob_of(json.dumps(configuration).encode())
            repository.send(config, Bar().advance)
            manifest = {
                "schemaVersion": 2, "mediaType": MANIFEST, "config": described(CONFIG, config),
                "layers": [described("application/vnd.oci.image.layer.v1.tar+gzip", packed)],
            }  # fmt: skip
            made = client.blob_of(json.dumps(manifest).encode())
            repository.put(made.digest, b"".join(made.pieces(0)))
            entries.append(described(MANIFEST, made) | {"platform": {"os": "linux", "architecture": name}})
        if len(processors) == 1:
            repository.put(place.tag or "", b"".join(made.pieces(0)))
            return
        unknown = entries[0] | {"platform": {"os": "unknown", "architecture": "unknown"}}  # an attestation
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*entries, unknown]}
        repository.put(place.tag or "", json.dumps(index).encode(), INDEX)


def described(media_type: str, blob: client.Blob) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": blob.digest, "size": blob.size_bytes}

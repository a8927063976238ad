"""A package as an image for KServe: others unpack it, and what KServe runs of it runs."""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hard import base_package
from tests import device_folder, registry_process
from tests.registry_process import Registry
from toolchain.errors import BadUsage
from toolchain.progress import Bar
from toolchain.shipping.registry import client, pulling, pushing
from toolchain.shipping.registry.address import Address, address
from toolchain.shipping.registry.client import INDEX, MANIFEST
from toolchain.shipping.registry.pushing import Pushed

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


def put_base(place: Address, *, processors: tuple[str, ...] = PROCESSORS) -> None:
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


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry_process.running(tmp_path_factory.mktemp("registry")) as made:
        for tag, processors in (("all", PROCESSORS), ("one", PROCESSORS[:1])):
            put_base(address(f"oci://{made.place}/base/busybox:{tag}"), processors=processors)
        yield made


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return device_folder.version(tmp_path / "a", "a")


def push(package: Path, registry: Registry, name: str, base: str = "all") -> Pushed:
    place = address(f"oci://{registry.place}/{name}:1")
    return pushing.push(package, place, base=address(f"oci://{registry.place}/base/busybox:{base}"))


def run(*command: object) -> str:
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"no {command[0]} here")
    ended = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def unpacked(registry: Registry, name: str, folder: Path, *, processor: str = "amd64") -> Path:
    """The root of the image, as skopeo fetches and umoci unpacks it, which look at every digest."""
    source = f"docker://{registry.place}/{name}:1"
    run(
        "skopeo",
        f"--override-arch={processor}",
        "copy",
        "--src-tls-verify=false",
        source,
        f"oci:{folder}/{processor}:1",
    )
    rootless = () if os.geteuid() == 0 else ("--rootless",)
    run("umoci", "unpack", *rootless, "--image", f"{folder}/{processor}:1", folder / f"{processor}-bundle")
    return folder / f"{processor}-bundle" / "rootfs"


@pytest.mark.parametrize("processor", PROCESSORS)
def test_the_image_holds_the_package_for_each_processor(
    registry: Registry, package: Path, tmp_path: Path, processor: str
) -> None:
    push(package, registry, "held")
    root = unpacked(registry, "held", tmp_path, processor=processor)
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=root / "models", check=True)
    found = {str(path.relative_to(root / "models")) for path in (root / "models").rglob("*") if path.is_file()}
    assert found == {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}
    assert (root / "models/README.md").stat().st_mode & 0o777 == 0o644
    assert (root / "bin/busybox").exists()


def test_what_kserve_runs_of_it_runs(registry: Registry, package: Path, tmp_path: Path) -> None:
    """It looks whether /models is there, and links it where the server of the model reads it."""
    if os.geteuid() != 0:
        pytest.skip("only root enters another root")
    push(package, registry, "run")
    root = unpacked(registry, "run", tmp_path)
    script = "test -e /models && ln -sf /models /mnt/models && sleep 0.01 && ls /mnt/models/"
    said = run("chroot", root, "sh", "-c", script)
    assert {"SHA256SUMS", "manifest.json", "small", "nnx"} <= set(said.split())


def test_the_same_package_and_base_have_the_same_digest(registry: Registry, package: Path, tmp_path: Path) -> None:
    first = push(package, registry, "one")
    copied = shutil.copytree(package, tmp_path / "elsewhere")
    os.utime(copied / "README.md", (1, 1))
    second = push(copied, registry, "two")
    assert second.digest == first.digest
    assert second.sent_bytes > 0  # to another repository
    assert push(copied, registry, "one").sent_bytes == 0


def test_only_layers_that_changed_are_sent_and_the_base_is_taken_over(registry: Registry, package: Path) -> None:
    first = push(package, registry, "changed")
    assert first.sent_bytes < first.package_bytes - 500_000  # the base has come by itself
    (package / "README.md").write_text("# new\n")
    base_package.write_checksums(package)
    again = push(package, registry, "changed")
    assert again.before == first.digest != again.digest
    assert again.sent_bytes == pytest.approx(3_200_000, rel=0.1)  # what is small, with a file of 3 MB that is no weight


def test_a_base_of_one_image_makes_one_image(registry: Registry, package: Path) -> None:
    push(package, registry, "single", base="one")
    source = f"docker://{registry.place}/single:1"
    manifest = json.loads(run("skopeo", "inspect", "--raw", "--tls-verify=false", source))
    assert manifest["mediaType"] == MANIFEST
    configuration = json.loads(run("skopeo", "inspect", "--config", "--raw", "--tls-verify=false", source))
    assert configuration["architecture"] == "amd64"
    assert configuration["config"] == {"Cmd": ["sh"]}
    assert len(configuration["rootfs"]["diff_ids"]) == len(manifest["layers"]) == len(configuration["history"])


def test_a_base_in_another_registry_is_brought_along(registry: Registry, package: Path, tmp_path: Path) -> None:
    with registry_process.running(tmp_path / "other") as other:
        base = address(f"oci://{registry.place}/base/busybox:all")
        pushed = pushing.push(package, address(f"oci://{other.place}/here:1"), base=base)
        assert pushed.sent_bytes == pushed.package_bytes
        unpacked(other, "here", tmp_path)


def test_what_is_no_base_is_named_and_no_car_is_pulled(registry: Registry, package: Path, tmp_path: Path) -> None:
    place = address(f"oci://{registry.place}/package:1")
    pushing.push(package, place)
    with pytest.raises(BadUsage, match="no image for Linux"):
        pushing.push(package, address(f"oci://{registry.place}/x:1"), base=place)
    with pytest.raises(BadUsage, match="is not there"):
        push(package, registry, "x", base="absent")
    push(package, registry, "car")
    with pytest.raises(BadUsage, match="is no package"):
        pulling.pull(address(f"oci://{registry.place}/car:1"), tmp_path / "x.ortpackage")

"""A package as an image for KServe: others unpack it, and what KServe runs of it runs."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.hard import base_package
from tests import base_image, device_folder, registry_process
from tests.registry_process import Registry
from toolchain.errors import BadUsage
from toolchain.shipping.registry import pulling, pushing
from toolchain.shipping.registry.address import address
from toolchain.shipping.registry.client import MANIFEST
from toolchain.shipping.registry.pushing import Pushed

PROCESSORS = base_image.PROCESSORS


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry_process.running(tmp_path_factory.mktemp("registry")) as made:
        for tag, processors in (("all", PROCESSORS), ("one", PROCESSORS[:1])):
            base_image.put(address(f"oci://{made.place}/base/busybox:{tag}"), processors=processors)
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
    assert again.sent_bytes < 40_000 < 3_000_000 < again.package_bytes


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

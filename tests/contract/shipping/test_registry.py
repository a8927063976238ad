"""Packages in Debian's docker-registry: open, behind a password, over TLS; and skopeo's view of them."""

import base64
import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.hard import base_package
from tests import device_folder, registry_process
from tests.registry_process import PASSWORD, USER, Registry
from toolchain import errors
from toolchain.errors import BadUsage, CheckFailed, NotAvailable
from toolchain.shipping import keys, signature
from toolchain.shipping.registry import client, pulling, pushing
from toolchain.shipping.registry.address import Address, address
from toolchain.shipping.registry.pulling import Pulled
from toolchain.shipping.registry.pushing import Pushed


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry_process.running(tmp_path_factory.mktemp("registry")) as made:
        yield made


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return device_folder.three_versions(tmp_path_factory.mktemp("packages"))


@pytest.fixture
def place(registry: Registry, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Address:
    """A repository of the test's own; nobody is logged in."""
    monkeypatch.setenv("DOCKER_CONFIG", "/nowhere")
    name = request.node.originalname.removeprefix("test_").replace("_", "-")
    return address(f"oci://{registry.place}/{name}:1")


def held(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def push(package: Path, place: Address, trust: Path | None = None) -> Pushed:
    return pushing.push(package, place, trust=trust)


def pull(place: Address, folder: Path, trust: Path | None = None) -> Pulled:
    return pulling.pull(place, folder / "small.ortpackage", trust=trust)


def test_what_was_pushed_is_pulled(place: Address, versions: tuple[Path, ...], tmp_path: Path) -> None:
    pushed = push(versions[0], place)
    pulled = pull(place, tmp_path)
    assert held(pulled.folder) == held(versions[0])
    assert pulled.digest == pushed.digest
    assert pulled.verdict.sha256 == device_folder.sha256(versions[0])
    by_digest = dataclasses.replace(place, tag=None, digest=pushed.digest)
    assert pull(by_digest, tmp_path).digest == pushed.digest
    assert [path.name for path in tmp_path.iterdir()] == ["small.ortpackage"]


def test_the_same_package_has_the_same_digest(place: Address, versions: tuple[Path, ...], tmp_path: Path) -> None:
    copied = shutil.copytree(versions[0], tmp_path / "elsewhere")
    shutil.make_archive(str(tmp_path / "packed"), "tar", versions[0])
    digests = {push(each, place).digest for each in (versions[0], copied, tmp_path / "packed.tar")}
    assert len(digests) == 1


def test_only_what_changed_is_sent_and_fetched(place: Address, versions: tuple[Path, ...], tmp_path: Path) -> None:
    first, second = push(versions[0], place), push(versions[0], place)
    assert second.sent_bytes == 0
    assert second.before == first.digest
    other = shutil.copytree(versions[0], tmp_path / "other")
    (other / "README.md").write_text("# new\n")
    base_package.write_checksums(other)
    pull(place, tmp_path)
    third = push(other, place)
    assert third.before == first.digest != third.digest
    assert third.sent_bytes < 4_000 < third.package_bytes
    pulled = pull(place, tmp_path)
    assert pulled.fetched_bytes < 4_000
    assert held(pulled.folder) == held(other)


def test_a_dry_run_sends_nothing(place: Address, versions: tuple[Path, ...], registry: Registry) -> None:
    before = registry.blobs()
    pushed = pushing.push(versions[2], place, dry_run=True)
    assert pushed.before is None
    assert pushed.sent_bytes > 3_000_000
    assert registry.blobs() == before
    with client.Repository(place) as repository:
        assert repository.digest_at("1") is None


def test_empty_files_and_names_of_every_kind(place: Address, versions: tuple[Path, ...], tmp_path: Path) -> None:
    package = shutil.copytree(versions[0], tmp_path / "odd")
    (package / "small" / "empty.bin").touch()
    (package / "small" / "ä b'c$.bin").write_bytes(b"x")
    base_package.write_checksums(package)
    push(package, place)
    assert held(pull(place, tmp_path).folder) == held(package)


def test_a_tag_that_moved_is_seen(place: Address, versions: tuple[Path, ...], tmp_path: Path) -> None:
    first = push(versions[0], place)
    pinned = dataclasses.replace(place, digest=first.digest)
    assert pull(pinned, tmp_path).digest == first.digest
    push(versions[1], place)
    with pytest.raises(CheckFailed, match=r"leads to sha256:\w+ by now"):
        pull(pinned, tmp_path)
    assert held(tmp_path / "small.ortpackage") == held(versions[0])


def test_a_signature_travels(place: Address, versions: tuple[Path, ...], tmp_path: Path) -> None:
    one, other = keys.new(tmp_path / "one"), keys.new(tmp_path / "other")
    package = shutil.copytree(versions[0], tmp_path / "signed")
    with pytest.raises(CheckFailed, match=r"not sent: model\.sig is unsigned"):
        push(package, place, trust=one.public)
    signature.sign(package, one.private)
    push(package, place, trust=one.public)
    assert pull(place, tmp_path, trust=one.public).verdict.signed_by == one.fingerprint
    shutil.rmtree(tmp_path / "small.ortpackage")
    with pytest.raises(CheckFailed, match="wrongly signed"):
        pull(place, tmp_path, trust=other.public)
    assert not (tmp_path / "small.ortpackage").exists()


def test_what_is_not_there_is_named(place: Address, versions: tuple[Path, ...], tmp_path: Path) -> None:
    push(versions[0], place)
    with pytest.raises(BadUsage, match="is not there: manifest unknown"):
        pull(dataclasses.replace(place, tag="2"), tmp_path)
    with pytest.raises(BadUsage, match="is not there"):
        pull(dataclasses.replace(place, repository="no/such"), tmp_path)
    with pytest.raises(BadUsage, match="is not there"):
        pull(dataclasses.replace(place, tag=None, digest="sha256:" + "0" * 64), tmp_path)
    with pytest.raises(NotAvailable, match="nothing answers there"):
        pull(dataclasses.replace(place, registry="localhost:1"), tmp_path)
    with pytest.raises(NotAvailable, match=r"no registry\.invalid to be found"):
        pull(dataclasses.replace(place, registry="registry.invalid"), tmp_path)
    with pytest.raises(BadUsage, match="no tag to push to"):
        push(versions[0], dataclasses.replace(place, tag=None, digest="sha256:" + "0" * 64))
    assert not list(tmp_path.iterdir())


# --- who one is


def log_in(folder: Path, place: str, password: str) -> None:
    folder.mkdir()
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {place: {"auth": auth}}}))


def test_a_password_opens(versions: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with registry_process.running(tmp_path / "registry", password=True) as closed:
        place = address(f"oci://{closed.place}/small:1")
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "nobody"))
        with pytest.raises(BadUsage, match="does not know you"):
            push(versions[0], place)
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "wrong"))
        log_in(tmp_path / "wrong", closed.place, "guess")
        with pytest.raises(BadUsage, match="does not know you"):
            push(versions[0], place)
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "right"))
        log_in(tmp_path / "right", closed.place, PASSWORD)
        push(versions[0], place)
        assert held(pull(place, tmp_path).folder) == held(versions[0])


def test_a_registry_with_tls_is_known_by_its_authority(
    versions: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", "/nowhere")
    certificate, authority = registry_process.certificate(tmp_path / "certificates")
    with registry_process.running(tmp_path / "registry", certificate=certificate) as secure:
        place = address(f"oci://{secure.place}/small:1")
        with pytest.raises(NotAvailable, match="is not to be trusted"):
            push(versions[0], place)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        push(versions[0], place)
        assert held(pull(place, tmp_path).folder) == held(versions[0])


# --- others


def skopeo(*words: str) -> str:
    if shutil.which("skopeo") is None:
        pytest.skip("no skopeo here")
    ended = subprocess.run(["skopeo", *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_skopeo_reads_and_copies_it(
    place: Address, versions: tuple[Path, ...], tmp_path: Path, registry: Registry
) -> None:
    pushed = push(versions[0], place)
    source = f"docker://{registry.place}/{place.repository}:1"
    raw = skopeo("inspect", "--raw", "--tls-verify=false", source).encode()
    assert client.digest_of(raw) == pushed.digest
    manifest = json.loads(raw)
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    kinds = {layer["mediaType"].split(".")[3] for layer in manifest["layers"]}
    assert kinds == {"weight", "code", "doc"}
    listed = {layer["annotations"]["org.cncf.model.filepath"]: layer["digest"] for layer in manifest["layers"]}
    sums = (line.split("  ") for line in (versions[0] / "SHA256SUMS").read_text().splitlines())
    assert {name: f"sha256:{digest}" for digest, name in sums} == {
        name: digest for name, digest in listed.items() if name != "SHA256SUMS"
    }
    config = json.loads(skopeo("inspect", "--config", "--raw", "--tls-verify=false", source))
    assert config["config"] == {"format": "onnx", "precision": "fp32"}
    assert config["modelfs"] == {"type": "layers", "diffIds": [layer["digest"] for layer in manifest["layers"]]}
    copied = f"docker://{registry.place}/copied:2"
    skopeo("copy", "--src-tls-verify=false", "--dest-tls-verify=false", source, copied)
    pulled = pull(dataclasses.replace(place, repository="copied", tag="2"), tmp_path)
    assert pulled.digest == pushed.digest
    assert held(pulled.folder) == held(versions[0])


def test_an_image_is_no_package(tmp_path: Path, registry: Registry, place: Address) -> None:
    (tmp_path / "layout/blobs/sha256").mkdir(parents=True)
    config = b'{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}'
    described = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": len(config)}
    manifest = {"schemaVersion": 2, "config": described | {"digest": client.digest_of(config)}, "layers": []}
    content = json.dumps(manifest).encode()
    for each in (config, content):
        (tmp_path / "layout/blobs/sha256" / client.digest_of(each)[7:]).write_bytes(each)
    entry = {"mediaType": client.MANIFEST, "digest": client.digest_of(content), "size": len(content)}
    (tmp_path / "layout/index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (tmp_path / "layout/oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    target = f"docker://{registry.place}/{place.repository}:1"
    skopeo("copy", "--dest-tls-verify=false", f"oci:{tmp_path / 'layout'}", target)
    with pytest.raises(BadUsage, match="no package"):
        pull(place, tmp_path)


# --- this machine


def test_two_pulls_to_one_place_do_not_meet(place: Address, versions: tuple[Path, ...], tmp_path: Path) -> None:
    push(versions[0], place)
    arrived = tmp_path / ".small.ortpackage.arrived"
    arrived.mkdir()
    with subprocess.Popen(["flock", "--no-fork", arrived, "sleep", "60"]) as other:
        while subprocess.run(["flock", "-n", arrived, "true"], check=False).returncode == 0:
            pass
        with pytest.raises(NotAvailable, match="is at work"):
            pull(place, tmp_path)
        other.kill()
    subprocess.run(["flock", arrived, "true"], check=True)
    pull(place, tmp_path)


def test_a_link_where_files_arrive_is_not_followed(place: Address, versions: tuple[Path, ...], tmp_path: Path) -> None:
    push(versions[0], place)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".small.ortpackage.arrived").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadUsage, match="is a link"):
        pull(place, tmp_path)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_package_that_is_there_in_part_is_damaged_or_not_taken_over(
    place: Address, versions: tuple[Path, ...], tmp_path: Path
) -> None:
    """Its list tells what it was; what it is now is looked at."""
    push(versions[0], place)
    pulled = pull(place, tmp_path).folder
    (pulled / "README.md").write_text("changed\n")
    weights = pulled / "small" / "weights.bin"
    weights.unlink()
    weights.symlink_to(versions[0] / "small" / "weights.bin")
    pull(place, tmp_path)
    assert held(pulled) == held(versions[0])
    assert not weights.is_symlink()
    assert weights.stat().st_nlink == 1


def test_a_full_disk_is_said_and_the_next_pull_goes_on(
    place: Address, versions: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=False).returncode
    ):
        pytest.skip("no disk of our own here")
    try:
        push(versions[0], place)
        with pytest.raises(NotAvailable, match=r"2\.1 are free"):
            pull(place, disk)
        assert not list(disk.iterdir())
        plenty = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: plenty)  # as if somebody took the space meanwhile
        with pytest.raises(OSError, match="No space left") as caught:
            pull(place, disk)
        assert errors.explain(caught.value) is not None
        assert [path.name for path in disk.iterdir()] == [".small.ortpackage.arrived"]
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        pulled = pull(place, disk)
        assert held(pulled.folder) == held(versions[0])
        assert pulled.fetched_bytes < 2_000_000
    finally:
        subprocess.run(["umount", disk], check=True)

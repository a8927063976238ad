"""The scripts that carry packages to a fleet, run as a device runs them: against a real registry, and hostile ones."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.hard import base_package
from tests import device_folder, hostile_registry, registry_process
from tests.hostile_registry import HostileRegistry, Request
from tests.registry_process import PASSWORD, USER, Registry
from toolchain.errors import BadUsage
from toolchain.shipping import device as targets
from toolchain.shipping import keys, signature
from toolchain.shipping.fleet import device, systemd_pull
from toolchain.shipping.fleet.device import Device
from toolchain.shipping.pushing import Manner
from toolchain.shipping.registry import client, model_pack, pushing
from toolchain.shipping.registry.address import Address, address
from toolchain.shipping.registry.client import Repository


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
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    monkeypatch.setenv("DOCKER_CONFIG", "/nowhere")
    return address(f"oci://{registry.place}/{request.node.originalname.replace('_', '-')}:stable")


class Fleet:
    """One device of it: ``fetch`` is what its timer runs, ``folder`` where packages live."""

    def __init__(self, folder: Path, source: Address, *, trust: Path | None = None, check: str | None = None) -> None:
        self.folder, self.files = folder / "device", folder / "emitted"
        manner = Manner(python=device_folder.python_of_the_device(folder), check=check, within_s=20)
        there = Device(folder=str(self.folder), manner=manner, trust=trust)
        systemd_pull.write(source, there, self.files, every_s=60, plain_http=True)
        (self.script,) = self.files.glob("nnx-*/fetch.sh")

    def fetch(self, shell: tuple[str, ...] = ("sh",), path: str | None = None) -> "subprocess.CompletedProcess[str]":
        environment = {"PATH": path or os.environ["PATH"], "HOME": "/nowhere"}
        command = [*shell, str(self.script)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)

    def live(self) -> str | None:
        return device_folder.live(self.folder)

    def left_over(self) -> list[str]:
        return sorted(path.name for path in (self.folder / ".nnx" / "fetched").glob("*"))


def test_what_the_tag_leads_to_becomes_live(place: Address, versions: tuple[Path, ...], tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, place)
    pushing.push(versions[0], place)
    ended = fleet.fetch()
    assert ended.returncode == 0, ended.stderr
    assert fleet.live() == device_folder.sha256(versions[0])
    assert "11 files fetched" in ended.stdout
    ended = fleet.fetch()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "is live" in ended.stdout
    assert not fleet.left_over()
    other = shutil.copytree(versions[0], tmp_path / "other")
    (other / "README.md").write_text("# new\n")
    base_package.write_checksums(other)
    pushing.push(other, place)
    ended = fleet.fetch()
    assert "2 files fetched" in ended.stdout, ended.stderr  # the card and the list
    assert fleet.live() == device_folder.sha256(other)
    assert len(device_folder.kept(fleet.folder)) == 2


def test_a_device_that_has_busybox_and_curl_alone(place: Address, versions: tuple[Path, ...], tmp_path: Path) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("no busybox here")
    tools = tmp_path / "tools"
    tools.mkdir()
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in listed:
        (tools / name).symlink_to(busybox)
    for name in ("curl", "openssl"):
        (tools / name).unlink(missing_ok=True)
        (tools / name).symlink_to(shutil.which(name) or "/nowhere")
    pair = keys.new(tmp_path / "release")
    package = shutil.copytree(versions[0], tmp_path / "signed")
    signature.sign(package, pair.private)
    pushing.push(package, place)
    fleet = Fleet(tmp_path, place, trust=pair.public)
    ended = fleet.fetch((busybox, "sh"), path=str(tools))
    assert ended.returncode == 0, ended.stderr
    assert fleet.live() == device_folder.sha256(package)


@pytest.mark.parametrize("curve", ["prime256v1", "secp384r1", "secp521r1"])
def test_a_signature_is_looked_at_on_the_device(
    place: Address, versions: tuple[Path, ...], tmp_path: Path, curve: str
) -> None:
    private, public = tmp_path / "own.key", tmp_path / "own.pub"
    subprocess.run(["openssl", "ecparam", "-name", curve, "-genkey", "-noout", "-out", private], check=True)
    subprocess.run(["openssl", "ec", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    package = shutil.copytree(versions[0], tmp_path / "signed")
    signature.sign(package, private)
    pushing.push(package, place)
    fleet = Fleet(tmp_path, place, trust=public)
    ended = fleet.fetch()
    assert ended.returncode == 0, ended.stderr
    assert (fleet.folder / "current" / "model.sig").exists()


def test_what_is_not_signed_with_the_key_does_not_run(
    place: Address, versions: tuple[Path, ...], tmp_path: Path
) -> None:
    one, other = keys.new(tmp_path / "one"), keys.new(tmp_path / "other")
    fleet = Fleet(tmp_path, place, trust=one.public)
    pushing.push(versions[0], place)
    assert "the package is not signed" in fleet.fetch().stderr
    wrong = shutil.copytree(versions[0], tmp_path / "wrong")
    signature.sign(wrong, other.private)
    pushing.push(wrong, place)
    assert "not signed with the key that is trusted" in fleet.fetch().stderr
    signed = shutil.copytree(versions[0], tmp_path / "signed")
    signature.sign(signed, one.private)
    mixed = shutil.copytree(versions[1], tmp_path / "mixed")  # another package under a good signature
    shutil.copy(signed / "model.sig", mixed / "model.sig")
    pushing.push(mixed, place)
    assert "not the one that was signed" in fleet.fetch().stderr
    bundle = json.loads((signed / "model.sig").read_text())
    for where in ("payload", "signatures"):
        broken = json.loads(json.dumps(bundle))
        if where == "payload":
            broken["dsseEnvelope"]["payload"] = "A" + broken["dsseEnvelope"]["payload"][1:]
        else:
            broken["dsseEnvelope"]["signatures"][0]["sig"] = "AAAA"
        (mixed / "model.sig").write_text(json.dumps(broken))
        pushing.push(mixed, place)
        assert "not signed with the key that is trusted" in fleet.fetch().stderr
    assert fleet.live() is None
    pushing.push(signed, place)
    assert fleet.fetch().returncode == 0
    assert fleet.live() == device_folder.sha256(signed)


def test_what_fails_its_test_or_check_is_not_tried_again(
    place: Address, versions: tuple[Path, ...], tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path, place, check="test ! -e current/broken")
    pushing.push(versions[0], place)
    assert fleet.fetch().returncode == 0
    bad = device_folder.version(tmp_path / "bad", "x", ok=False)
    pushing.push(bad, place)
    ended = fleet.fetch()
    assert ended.returncode == 1
    assert "refused: it fails its self-test" in ended.stderr
    ended = fleet.fetch()
    assert ended.returncode == 1
    assert "was refused before" in ended.stderr
    unfit = shutil.copytree(versions[1], tmp_path / "unfit")
    (unfit / "broken").touch()
    base_package.write_checksums(unfit)
    pushing.push(unfit, place)
    ended = fleet.fetch()
    assert "what was live before is live" in ended.stderr
    assert "was refused before" in fleet.fetch().stderr
    assert fleet.live() == device_folder.sha256(versions[0])
    pushing.push(versions[1], place)
    assert fleet.fetch().returncode == 0
    assert fleet.live() == device_folder.sha256(versions[1])
    assert not fleet.left_over()


def unchecked(package: Path, place: Address) -> None:
    """Into the registry without the look that `nnx push` takes."""
    pack = model_pack.of(package)
    with Repository(place) as repository:
        for blob in pack.blobs:
            if not repository.has(blob.digest):
                repository.send(blob, lambda count: None)
        repository.put(place.tag or "", pack.manifest)


@pytest.mark.parametrize("name", ["../../../out", "/out", "a/../../out", "a:b", "SHA256SUMS", "a\\b", "x/./y", "./x"])
def test_names_that_lead_out_of_the_package_are_refused(
    registry: Registry, versions: tuple[Path, ...], tmp_path: Path, name: str
) -> None:
    package = shutil.copytree(versions[0], tmp_path / "hostile")
    lines = (package / "SHA256SUMS").read_text().splitlines()
    hash_of_a_file = lines[0].split("  ")[0]
    place = address(f"oci://{registry.place}/names:stable")
    pack = model_pack.of(package)
    listed = "\n".join([*lines, f"{hash_of_a_file}  {name}"]).encode() + b"\n"
    own = client.blob_of(listed)
    manifest = json.loads(pack.manifest)
    for layer in manifest["layers"]:
        if layer["annotations"]["org.cncf.model.filepath"] == "SHA256SUMS":
            layer.update(digest=own.digest, size=own.size_bytes)
    with Repository(place) as repository:
        for blob in (*pack.blobs, own):
            repository.send(blob, lambda count: None)
        repository.put("stable", model_pack.as_json(manifest))
    fleet = Fleet(tmp_path, place)
    ended = fleet.fetch()
    assert ended.returncode == 1
    assert "lists a name that no package has" in ended.stderr
    assert fleet.live() is None
    assert not list(tmp_path.rglob("out"))


def test_a_registry_behind_a_password(
    versions: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with registry_process.running(tmp_path / "registry", password=True) as closed:
        place = address(f"oci://{closed.place}/small:stable")
        (tmp_path / "docker").mkdir()
        entry = {"username": USER, "password": PASSWORD}
        (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": {closed.place: entry}}))
        pushing.push(versions[0], place)
        fleet = Fleet(tmp_path, place)
        ended = fleet.fetch()
        assert ended.returncode == 1
        assert "does not give small:stable" in ended.stderr
        (fleet.script.parent / "login").write_text(f'user = "{USER}:{PASSWORD}"\n')
        ended = fleet.fetch()
        assert ended.returncode == 0, ended.stderr
        assert fleet.live() == device_folder.sha256(versions[0])


# --- registries that break off, lie, or want tokens


@pytest.fixture
def hostile(versions: tuple[Path, ...]) -> Iterator[HostileRegistry]:
    with hostile_registry.running() as made:
        made.hold(versions[0])
        yield made


def test_what_breaks_off_goes_on_at_the_next_look(
    hostile: HostileRegistry, versions: tuple[Path, ...], tmp_path: Path
) -> None:
    content = hostile.blobs[hostile.largest()]
    hostile.answers["GET", hostile.largest()] = lambda request: request.part(content, 2**20)
    fleet = Fleet(tmp_path, hostile.address)
    ended = fleet.fetch()
    assert ended.returncode == 1
    assert "did not give the file" in ended.stderr
    assert fleet.live() is None
    assert f"{hostile.largest()[7:]}.part" in fleet.left_over()
    hostile.answers.clear()
    hostile.asked.clear()
    ended = fleet.fetch()
    assert ended.returncode == 0, ended.stderr
    assert fleet.live() == device_folder.sha256(versions[0])
    (range_asked,) = [headers.get("Range") for _, path, headers in hostile.asked if hostile.largest() in path]
    assert range_asked is not None and range_asked.startswith(f"bytes={2**20}")


@pytest.mark.parametrize("kind", ["changed", "endless", "absent", "html"])
def test_what_is_not_the_file_is_not_kept(
    hostile: HostileRegistry, versions: tuple[Path, ...], tmp_path: Path, kind: str
) -> None:
    content = bytearray(hostile.blobs[hostile.largest()])
    content[5] ^= 1

    def answer(request: Request) -> None:
        if kind == "changed":
            request.part(bytes(content))
        elif kind == "html":
            request.answer(200, b"<html>log in</html>")
        elif kind == "absent":
            request.answer(404)
        else:
            request.send_response(200)
            request.end_headers()
            for _ in range(1000):
                request.wfile.write(bytes(2**20))

    hostile.answers["GET", hostile.largest()] = answer
    fleet = Fleet(tmp_path, hostile.address)
    assert fleet.fetch().returncode == 1
    assert fleet.live() is None
    assert sum(path.stat().st_size for path in fleet.folder.rglob("*") if path.is_file()) < 8 * 2**20
    hostile.answers.clear()
    ended = fleet.fetch()
    assert ended.returncode == 0, ended.stderr
    assert fleet.live() == device_folder.sha256(versions[0])


@pytest.mark.parametrize("manifest", [b"", b"<html>", b"{}", b'{"layers": [' + bytes(10 * 2**20)])
def test_what_is_no_manifest_changes_nothing(hostile: HostileRegistry, tmp_path: Path, manifest: bytes) -> None:
    hostile.manifest = manifest
    fleet = Fleet(tmp_path, hostile.address)
    ended = fleet.fetch()
    assert ended.returncode == 1
    assert "is no package" in ended.stderr or "does not give" in ended.stderr
    assert fleet.live() is None


def test_a_token_is_fetched_where_one_is_wanted(
    hostile: HostileRegistry, versions: tuple[Path, ...], tmp_path: Path
) -> None:
    realm = f'Bearer realm="http://{hostile.place}/token?a=b",service="here",scope="repository:small:pull"'

    def wants_token(request: Request) -> None:
        if request.headers.get("Authorization") != "Bearer go-od.1=":
            request.answer(401, b"not you", WWW_Authenticate=realm)
        elif "/manifests/" in request.path:
            request.part(hostile.manifest)
        else:
            request.part(hostile.blobs[request.path.rpartition("/")[2]])

    hostile.answers["GET", "/v2/"] = wants_token
    hostile.answers["GET", "/token"] = lambda request: request.answer(200, b'{"expires_in": 300, "token": "go-od.1="}')
    fleet = Fleet(tmp_path, hostile.address)
    ended = fleet.fetch()
    assert ended.returncode == 0, ended.stderr
    assert fleet.live() == device_folder.sha256(versions[0])
    (asked,) = {path for _, path, _ in hostile.asked if path.startswith("/token")}
    assert asked == "/token?a=b&service=here&scope=repository%3asmall%3apull"


@pytest.mark.parametrize("realm", ["-o{out}", "file:///etc/passwd", "", "http://{place}/[1-9]{{a,b}}"])
def test_a_realm_is_a_place_and_nothing_else(hostile: HostileRegistry, tmp_path: Path, realm: str) -> None:
    """No option of curl's, no file, and no pattern that makes many of one."""
    named = realm.format(out=tmp_path / "out", place=hostile.place)
    hostile.answers["GET", "/v2/"] = lambda request: request.answer(
        401, WWW_Authenticate=f'Bearer realm="{named}",x="y"'
    )
    fleet = Fleet(tmp_path, hostile.address)
    assert fleet.fetch().returncode == 1
    assert not (tmp_path / "out").exists()
    assert len([path for _, path, _ in hostile.asked if not path.startswith("/v2/")]) <= 1


# --- what is written


def test_the_units_are_what_systemd_takes(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    there = Device(folder="/var/lib/digits", manner=Manner(check="systemctl restart camera"))
    systemd_pull.write(address("oci://registry.example/team/digits:stable"), there, tmp_path / "out", every_s=3600)
    units = sorted((tmp_path / "out").glob("*.*er*"))
    assert [unit.name for unit in units] == ["nnx-digits.service", "nnx-digits.timer"]
    ended = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    settings = (tmp_path / "out/nnx-digits/settings").read_text()
    assert "after='systemctl restart camera'\n" in settings
    assert "registry=https://registry.example\n" in settings


@pytest.mark.parametrize("folder", ["/", "/a b", "/a/../b", "/a%i", "/a;b", "relative", "/a'b"])
def test_folders_that_units_cannot_name_are_refused(folder: str) -> None:
    with pytest.raises(BadUsage):
        Device(folder=folder, manner=Manner())


def test_what_no_fleet_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadUsage, match="one machine"):
        device.of(targets.target("ssh://pi@raspberrypi.local/~/digits"), Manner(), None)
    there = Device(folder="/var/lib/digits", manner=Manner())
    with pytest.raises(BadUsage, match="never leads to anything else"):
        systemd_pull.write(address("oci://host/a@sha256:" + "0" * 64), there, tmp_path / "out", every_s=60)
    (tmp_path / "out").mkdir()
    with pytest.raises(BadUsage, match="is there already"):
        systemd_pull.write(address("oci://host/a:1"), there, tmp_path / "out", every_s=60)

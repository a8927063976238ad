"""Mender, RAUC and systemd themselves carry a package to a folder: the artifact, the bundle and the unit for real."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import device_folder, registry_process
from toolchain.errors import CheckFailed
from toolchain.shipping import keys, signature
from toolchain.shipping.fleet import mender, rauc, systemd_pull
from toolchain.shipping.fleet.device import Device
from toolchain.shipping.pushing import Manner
from toolchain.shipping.registry import pushing
from toolchain.shipping.registry.address import address

BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={folder}/bus</listen><policy context="default"><allow user="*"/>
<allow own="*"/><allow send_destination="*"/><allow receive_type="*"/></policy></busconfig>
"""
SYSTEM = """[system]
compatible=Acme Board
bootloader=noop
mountprefix={folder}/mnt
statusfile={folder}/status
[keyring]
path={folder}/release.cert
[slot.rootfs.0]
device=/dev/null
type=raw
bootname=system0
[slot.small.0]
device={folder}/device
type=raw
"""


def need(*programs: str, root: bool = True) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"no {program} here")
    if root and os.geteuid() != 0:
        pytest.skip("only root mounts")


def run(*command: object, environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, env=environment)


def there(folder: Path, trust: Path | None = None) -> Device:
    manner = Manner(python=device_folder.python_of_the_device(folder), within_s=20)
    return Device(folder=str(folder / "device"), manner=manner, trust=trust)


def signed(package: Path, key: Path) -> Path:
    signature.sign(package, key)
    return package


# --- Mender


@pytest.fixture
def mender_client(tmp_path: Path) -> Path:
    """A folder with what the client reads, as a device has it."""
    need("mender", "mender-artifact", "unshare")
    if run("unshare", "-m", "true").returncode:
        pytest.skip("no mounts of our own here")
    for name in ("modules", "etc", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "device_type").write_text("device_type=board 1\n")
    (tmp_path / "etc" / "artifact_info").write_text("artifact_name=initial\n")
    (tmp_path / "etc" / "mender.conf").write_text("{}\n")
    return tmp_path


def client(folder: Path, *words: object) -> "subprocess.CompletedProcess[str]":
    """The client, which looks for its modules where a device has them."""
    mounts = f"mount --bind {folder}/modules /usr/share/mender/modules/v3 && mount --bind {folder}/etc /etc/mender"
    options = f"--no-syslog --config {folder}/etc/mender.conf --fallback-config {folder}/etc/mender.conf"
    script = f'mkdir -p /usr/share/mender/modules/v3 && {mounts} && exec mender {options} --data {folder}/data "$@"'
    return run("unshare", "-m", "sh", "-c", script, "sh", *words)


def artifact(folder: Path, package: Path, trust: Path | None = None) -> Path:
    made = folder / f"mender-{package.name}"
    mender.write(package, there(folder, trust), made, device_type="board 1")
    shutil.copy(made / "nnx-package", folder / "modules")
    ended = run("sh", made / "artifact.sh")
    assert ended.returncode == 0, ended.stderr
    return made / "small.mender"


def test_mender_installs_commits_and_rolls_back(mender_client: Path) -> None:
    pair = keys.new(mender_client / "release")
    one, two, bad = (
        signed(device_folder.version(mender_client / name, name, ok=name != "bad"), pair.private)
        for name in ("one", "two", "bad")
    )
    for package in (one, two):
        ended = client(mender_client, "install", artifact(mender_client, package, pair.public))
        assert ended.returncode == 0, ended.stderr
        assert device_folder.live(mender_client / "device") == device_folder.sha256(package)
        if package == one:
            assert client(mender_client, "commit").returncode == 0
    assert client(mender_client, "rollback").returncode == 0
    assert device_folder.live(mender_client / "device") == device_folder.sha256(one)
    ended = client(mender_client, "install", artifact(mender_client, bad, pair.public))
    assert ended.returncode != 0
    assert "refused: it fails its self-test" in ended.stderr
    assert device_folder.live(mender_client / "device") == device_folder.sha256(one)  # and not what was before that


# --- RAUC


@pytest.fixture
def rauc_system(tmp_path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """RAUC's service on a bus of its own, in whose system the folder is a slot; what a client's environment says."""
    need("rauc", "dbus-daemon", "openssl", "mksquashfs")
    if "squashfs" not in Path("/proc/filesystems").read_text() or not Path("/dev/loop-control").exists():
        pytest.skip("this kernel mounts no bundle")
    (tmp_path / "mnt").mkdir()
    (tmp_path / "device").mkdir()
    (tmp_path / "bus.conf").write_text(BUS.format(folder=tmp_path))
    (tmp_path / "system.conf").write_text(SYSTEM.format(folder=tmp_path))
    made = run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2,
        "-keyout", tmp_path / "release.key", "-out", tmp_path / "release.cert", "-subj", "/CN=us",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    environment = os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={tmp_path}/bus"}
    with started(tmp_path, "dbus-daemon", f"--config-file={tmp_path}/bus.conf", "--nofork", environment=environment):
        for _ in range(100):
            if (tmp_path / "bus").exists():
                break
            time.sleep(0.05)
        service = ("rauc", f"--conf={tmp_path}/system.conf", "--override-boot-slot=system0", "service")
        with started(tmp_path, *service, environment=environment):
            yield tmp_path, environment


@contextmanager
def started(folder: Path, *command: str, environment: dict[str, str]) -> Iterator[None]:
    with (folder / f"{command[0]}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def bundle(folder: Path, package: Path, *, compatible: str = "Acme Board") -> Path:
    made = folder / f"rauc-{package.name}"
    rauc.write(package, there(folder), made, compatible=compatible)
    manifest = made / "bundle" / "manifest.raucm"
    manifest.write_text(manifest.read_text().replace("format=verity", "format=plain"))  # there may be no device mapper
    key = (f"--cert={folder}/release.cert", f"--key={folder}/release.key")
    ended = run("rauc", "bundle", *key, made / "bundle", made / "small.raucb")
    assert ended.returncode == 0, ended.stderr
    return made / "small.raucb"


def test_rauc_installs_a_bundle_or_says_why_not(rauc_system: tuple[Path, dict[str, str]]) -> None:
    folder, environment = rauc_system

    def install(package: Path, **more: str) -> "subprocess.CompletedProcess[str]":
        for _ in range(50):  # until the service is on the bus
            ended = run("rauc", "install", bundle(folder, package, **more), environment=environment)
            if "was not provided by any" not in ended.stderr:
                break
            shutil.rmtree(folder / f"rauc-{package.name}")
            time.sleep(0.1)
        return ended

    one = device_folder.version(folder / "one", "one")
    ended = install(one)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert device_folder.live(folder / "device") == device_folder.sha256(one)
    ended = install(device_folder.version(folder / "bad", "bad", ok=False))
    assert ended.returncode != 0
    assert "refused: it fails its self-test" in (folder / "rauc.log").read_text()
    assert install(device_folder.version(folder / "other", "o"), compatible="Another Board").returncode != 0
    assert device_folder.live(folder / "device") == device_folder.sha256(one)


def test_a_bundle_is_of_the_form_that_rauc_recommends(tmp_path: Path) -> None:
    need("rauc", "openssl", "mksquashfs", root=False)
    package = device_folder.version(tmp_path / "one", "one")
    rauc.write(package, there(tmp_path), tmp_path / "out", compatible="Acme Board")
    made = run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2,
        "-keyout", tmp_path / "release.key", "-out", tmp_path / "release.cert", "-subj", "/CN=us",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    key = (f"--cert={tmp_path}/release.cert", f"--key={tmp_path}/release.key")
    ended = run("rauc", "bundle", *key, tmp_path / "out" / "bundle", tmp_path / "small.raucb")
    assert ended.returncode == 0, ended.stderr
    told = run("rauc", "info", f"--keyring={tmp_path}/release.cert", tmp_path / "small.raucb")
    assert "Bundle Format: \tverity" in told.stdout
    assert sorted(path.name for path in (tmp_path / "out" / "bundle").iterdir()) == [
        "hook.sh", "manifest.raucm", "package.image.tar",
    ]  # fmt: skip


def test_what_is_not_whole_is_not_wrapped(tmp_path: Path) -> None:
    package = device_folder.version(tmp_path / "one", "one")
    (package / "README.md").write_text("changed\n")
    with pytest.raises(CheckFailed):
        mender.write(package, there(tmp_path), tmp_path / "mender", device_type="board")
    with pytest.raises(CheckFailed):
        rauc.write(package, there(tmp_path), tmp_path / "rauc", compatible="board")
    assert not (tmp_path / "mender").exists() and not (tmp_path / "rauc").exists()


# --- systemd


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """This machine's files, in which what is changed is changed for the test alone."""
    need("systemd-nspawn", "curl", "mount")
    for name in ("upper", "work", "root"):
        (tmp_path / name).mkdir()
    # what lies in memory may lie over another overlay, which some disks do not
    layers = f"lowerdir=/,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    if run("mount", "-t", "overlay", "overlay", "-o", layers, tmp_path / "root").returncode:
        pytest.skip("no overlay of this machine's files can be mounted")
    yield tmp_path / "root"
    run("umount", tmp_path / "root")


@pytest.mark.slow
def test_systemd_fetches_what_a_tag_leads_to(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine starts with systemd as its first process, and the units where the README says that they go."""
    monkeypatch.setenv("DOCKER_CONFIG", "/nowhere")
    pair = keys.new(tmp_path / "release")
    one, two = (signed(device_folder.version(tmp_path / name, name), pair.private) for name in "ab")
    python = device_folder.python_of_the_device(root / "usr/local/bin", root=root, python="/usr/bin/python3")
    manner = Manner(python=python, check="systemctl restart camera && test -e current/SHA256SUMS", within_s=20)
    with registry_process.running(tmp_path / "registry") as registry:
        place = address(f"oci://{registry.place}/small:stable")
        pushing.push(one, place)
        device = Device(folder="/var/lib/small", manner=manner, trust=pair.public)
        systemd_pull.write(place, device, tmp_path / "out", every_s=2, plain_http=True)
        install(root, tmp_path / "out")
        log = tmp_path / "boot.log"
        with log.open("wb") as said:
            nspawn = ("systemd-nspawn", "--register=no", "--keep-unit", "--link-journal=no", "--directory", str(root))
            machine = subprocess.Popen(
                [*nspawn, "--boot", "--", "--unit=nnx-small.timer"], stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
            try:
                wait_for(root / "var/lib/small", one, machine, log)
                pushing.push(two, place)
                wait_for(root / "var/lib/small", two, machine, log)
            finally:
                machine.terminate()
                machine.wait(30)
    assert len(device_folder.kept(root / "var/lib/small")) == 2


def install(root: Path, out: Path) -> None:
    """What README.md says; the machine starts with the timer as its goal."""
    shutil.copytree(out / "nnx-small", root / "usr/local/lib/nnx-small")
    (root / "var/lib/small").mkdir()
    camera = "[Service]\nType=oneshot\nExecStart=/usr/bin/touch /run/camera\n"
    (root / "etc/systemd/system/camera.service").write_text(camera)
    units = root / "etc/systemd/system"
    for unit in out.glob("*.*er*"):
        shutil.copy(unit, units)
    (root / "etc/systemd/journald.conf").write_text("[Journal]\nForwardToConsole=yes\n")
    # not a minute after the start, as devices do
    timer = units / "nnx-small.timer"
    timer.write_text(timer.read_text().replace("OnBootSec=1min", "OnBootSec=1s\nAccuracySec=1s"))


def wait_for(folder: Path, package: Path, machine: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(600):
        if (folder / "current").is_symlink() and device_folder.live(folder) == device_folder.sha256(package):
            return
        if machine.poll() is not None:
            break
        time.sleep(0.1)
    told = log.read_text(errors="replace")[-3000:]
    if "Failed to" in told and "clone" in told:
        pytest.skip(f"no container starts here: {told[-300:]}")
    pytest.fail(f"it is not live: {told}")

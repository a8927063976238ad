"""What a device does with a package, in a folder of this machine: every step, broken off anywhere, and its faults."""

import hashlib
import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from benchmarks.hard import base_package
from tests.device_folder import (
    TESTED,
    TOOLS,
    back,
    kept,
    live,
    push,
    python_of_the_device,
    sha256,
    small_disk,
    three_versions,
    tools,
    version,
)
from toolchain.errors import CheckFailed
from toolchain.shipping import device, keys, pushing, signature
from toolchain.shipping.devices import Outcome
from toolchain.shipping.pushing import Manner


@pytest.fixture
def python(tmp_path: Path) -> str:
    return python_of_the_device(tmp_path)


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, Path, Path]:
    return three_versions(tmp_path)


def test_a_package_goes_live_tested_and_what_is_there_is_not_sent_again(
    versions: tuple[Path, Path, Path], tmp_path: Path, python: str
) -> None:
    a, b, c = versions
    at = tmp_path / "a device" / "models"
    outcome = push(a, at, python=python)
    assert (outcome.done, outcome.why, outcome.sha256) == (True, "", sha256(a))
    assert outcome.receipt is not None and outcome.receipt["ok"]
    assert outcome.sent_bytes <= outcome.package_bytes
    assert live(at) == sha256(a)
    assert push(a, at, python=python).sent_bytes == 0
    outcome = push(b, at, python=python)  # a block of the weights, the card and the list
    assert 2**20 < outcome.sent_bytes < 2**20 + 4_000
    assert live(at) == sha256(b)
    same = "small/fp32/model.onnx"
    assert (at / "current" / same).stat().st_ino == (at / "releases" / sha256(a) / same).stat().st_ino
    push(c, at, python=python)
    assert (live(at), kept(at)) == (sha256(c), {sha256(b), sha256(c)})
    assert sorted(path.name for path in (at / ".nnx").iterdir()) == ["before", "lock", "split"]


def test_the_version_before_comes_back_and_forth(
    versions: tuple[Path, Path, Path], tmp_path: Path, python: str
) -> None:
    a, b, c = versions
    at = tmp_path / "device"
    assert back(at).why == "nothing is live"
    for package in (a, b):
        push(package, at, python=python)
    outcome = back(at, python=python)
    assert (outcome.done, outcome.sha256, live(at)) == (True, sha256(a), sha256(a))
    assert outcome.receipt is not None
    assert back(at).why == "there is no version before the one that is live"
    assert live(at) == sha256(a)
    outcome = push(b, at, python=python)
    assert (outcome.sent_bytes, live(at)) == (0, sha256(b))
    back(at, python=python)
    push(c, at, python=python)
    assert kept(at) == {sha256(a), sha256(c)}
    (at / "releases" / sha256(a) / "README.md").write_text("damaged")
    assert back(at).why == "the version before the live one is gone or damaged"
    assert live(at) == sha256(c)


def test_a_worse_version_is_refused_by_its_self_test(
    versions: tuple[Path, Path, Path], tmp_path: Path, python: str
) -> None:
    at = tmp_path / "device"
    push(versions[0], at, python=python)
    outcome = push(version(tmp_path / "worse", "w", ok=False), at, python=python)
    assert not outcome.done
    assert outcome.why.startswith("it fails its self-test, which ended with code 1")
    assert outcome.why.endswith("golden fp32: is off by 3")
    assert outcome.receipt is not None
    assert (live(at), kept(at)) == (sha256(versions[0]), {sha256(versions[0])})


@pytest.mark.parametrize(
    ("runner", "why"),
    [
        ("import time; time.sleep(60)", "its self-test took longer than 1 s"),
        ("import os; os.kill(os.getpid(), 11)", "it fails its self-test, which ended with code 139"),
        ("raise SystemExit('no kernel')", "it fails its self-test, which ended with code 1: no kernel"),
    ],
)
def test_a_self_test_that_hangs_or_crashes_is_one_that_fails(
    runner: str, why: str, versions: tuple[Path, Path, Path], tmp_path: Path, python: str
) -> None:
    (versions[0] / "runners/python/run.py").write_text(runner)
    base_package.write_checksums(versions[0])
    assert push(versions[0], tmp_path / "device", python=python, within_s=1).why == why
    assert live(tmp_path / "device") is None


def test_without_a_python_it_is_not_tested_and_that_is_said(
    versions: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tools(tmp_path / "bin")))
    outcome = push(versions[0], tmp_path / "device")
    assert (outcome.done, outcome.receipt) == (True, None)
    assert outcome.untested == "no Python with numpy and onnxruntime"
    outcome = push(versions[1], tmp_path / "device", python="/no/python")
    assert outcome.why == "/no/python is not there, or has no numpy and onnxruntime"


def test_a_check_that_fails_or_hangs_brings_back_what_was_live(
    versions: tuple[Path, Path, Path], tmp_path: Path, python: str
) -> None:
    a, b, _ = versions
    at = tmp_path / "device"
    outcome = push(a, at, python=python, check="echo it is down >&2; false")
    assert outcome.why.endswith("what was live before is live: it is down")
    assert live(at) is None
    assert push(a, at, python=python, check="grep -q '# a' current/README.md").done
    for check in ("false", "sleep 60"):
        outcome = push(b, at, python=python, check=check, within_s=1)
        assert "its check failed or took longer than 1 s" in outcome.why
        assert live(at) == sha256(a)
    assert push(b, at, python=python, check="readlink current >seen").done
    assert sha256(b) in (at / "seen").read_text()
    assert not back(at, python=python, check="false").done
    assert live(at) == sha256(b)


def test_of_two_pushers_one_waits_for_nobody(versions: tuple[Path, Path, Path], tmp_path: Path, python: str) -> None:
    a, b, _ = versions
    at = tmp_path / "device"
    (a / "runners/python/run.py").write_text("import time; time.sleep(2); print('{}')")
    base_package.write_checksums(a)
    came = list[Outcome]()
    first = threading.Thread(target=lambda: came.append(push(a, at, python=python)))
    first.start()
    while not (at / ".nnx" / "new" / "SHA256SUMS").exists():
        time.sleep(0.01)
    outcome = push(b, at, python=python)
    assert outcome.why == f"another push is at work in {at}"
    first.join()
    assert came[0].done and live(at) == sha256(a)
    assert push(b, at, python=python).done


def test_without_flock_a_lock_of_an_earlier_boot_is_nobodys(
    versions: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tools(tmp_path / "bin")
    (folder / "flock").unlink()
    monkeypatch.setenv("PATH", str(folder))
    at = tmp_path / "device"
    assert push(versions[0], at).done
    (at / ".nnx" / "lock.of-another-boot").mkdir()
    assert push(versions[1], at).done
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (at / ".nnx" / f"lock.{boot}").mkdir()
    assert "another push is at work" in push(versions[0], at).why
    assert live(at) == sha256(versions[1])


def test_a_damaged_release_is_sent_anew_beside_it(
    versions: tuple[Path, Path, Path], tmp_path: Path, python: str
) -> None:
    a = versions[0]
    at = tmp_path / "device"
    push(a, at, python=python)
    (at / "current" / "README.md").write_text("damaged")
    outcome = push(a, at, python=python)
    assert outcome.done, outcome.why
    assert outcome.sent_bytes == (a / "README.md").stat().st_size
    assert live(at) == sha256(a)
    assert str((at / "current").readlink()) == f"releases/{sha256(a)}+"
    assert push(versions[1], at, python=python).done
    assert back(at, python=python).sha256 == sha256(a)


@pytest.mark.parametrize("size", ["4500k", "8m"])
def test_a_full_disk_leaves_what_is_live_and_no_rest(
    size: str, versions: tuple[Path, Path, Path], tmp_path: Path, python: str
) -> None:
    """Full while the blocks arrive, and while the package is made of them."""
    a = versions[0]
    with small_disk(tmp_path / "disk", size) as disk:
        (disk / "reserve").write_bytes(bytes(3_300_000 if size == "8m" else 0))
        tiny = base_package.write(tmp_path / "tiny")
        (tiny / "runners/python/run.py").write_text(TESTED.format(ok=True))
        base_package.write_checksums(tiny)
        assert push(tiny, disk, python=python).done
        used = shutil.disk_usage(disk).used
        (a / "small" / "more.bin").write_bytes(hashlib.shake_256(b"more").digest(2 * 2**20))
        base_package.write_checksums(a)
        outcome = push(a, disk, python=python)
        assert "No space left on device" in outcome.why or "the disk is full" in outcome.why
        assert live(disk) == sha256(tiny)
        assert shutil.disk_usage(disk).used - used < 20_000
        (disk / "reserve").unlink()
        assert push(tiny, disk, python=python).done


def test_what_cannot_be_written_is_said(versions: tuple[Path, Path, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "Not a directory" in push(versions[0], tmp_path / "file" / "device").why
    (tmp_path / "device" / "current").mkdir(parents=True)
    assert push(versions[0], tmp_path / "device").why.endswith("current is no link, so no push has made it")


def test_other_files_of_the_folder_are_left_alone(
    versions: tuple[Path, Path, Path], tmp_path: Path, python: str
) -> None:
    at = tmp_path / "device"
    (at / "releases" / "mine").mkdir(parents=True)
    for package in versions:
        assert push(package, at, python=python).done
    assert (at / "releases" / "mine").is_dir()
    assert len(kept(at)) == 3


def test_a_device_with_busybox_alone_will_do(
    versions: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("no busybox here")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", *TOOLS.split()):
        (folder / name).symlink_to(busybox)
    monkeypatch.setenv("PATH", str(folder))
    at = tmp_path / "device"
    for package in versions:
        outcome = push(package, at)
        assert outcome.done, outcome.why
        assert live_without_path(at) == sha256(package)
    assert back(at).sha256 == sha256(versions[1])


def live_without_path(folder: Path) -> str:
    return sha256(folder / "current")


def test_nothing_is_sent_of_a_package_that_is_not_signed_by_whom_one_trusts(
    versions: tuple[Path, Path, Path], tmp_path: Path, pair: keys.Pair, other: keys.Pair, python: str
) -> None:
    a = versions[0]
    target = [device.target(f"file://{tmp_path / 'device'}")]
    for trust, why in ((pair.public, r"model\.sig is unsigned"), (other.public, r"model\.sig is wrongly signed")):
        with pytest.raises(CheckFailed, match=why):
            pushing.push(a, target, trust=trust)
        assert not (tmp_path / "device").exists()
        if trust == pair.public:
            signature.sign(a, pair.private)
    sent = (a / "model.sig").read_bytes()
    (a / "model.sig").unlink()
    (outcome,) = pushing.push(a, target, Manner(python=python))  # so the same files are there already
    assert outcome.done
    (a / "model.sig").write_bytes(sent)
    (outcome,) = pushing.push(a, target, Manner(python=python), trust=pair.public)
    assert (outcome.done, outcome.sent_bytes, len(kept(tmp_path / "device"))) == (True, len(sent), 1)
    assert (tmp_path / "device" / "current" / "model.sig").read_bytes() == (a / "model.sig").read_bytes()
    (a / "README.md").write_text("changed")
    with pytest.raises(CheckFailed, match=r"README\.md is changed"):
        pushing.push(a, target)


def test_looking_changes_nothing(versions: tuple[Path, Path, Path], tmp_path: Path) -> None:
    target = [device.target(f"file://{tmp_path / 'device'}")]
    (outcome,) = pushing.push(versions[0], target, dry_run=True)
    assert outcome.done
    assert not (tmp_path / "device").exists()
    push(versions[0], tmp_path / "device")
    before = sorted((path, path.lstat().st_mtime_ns) for path in (tmp_path / "device").rglob("*"))
    (outcome,) = pushing.push(versions[1], target, dry_run=True)
    assert (outcome.sha256, outcome.sent_bytes > 2**20) == (sha256(versions[0]), True)
    assert sorted((path, path.lstat().st_mtime_ns) for path in (tmp_path / "device").rglob("*")) == before


def test_an_archive_goes_to_several_at_once(versions: tuple[Path, Path, Path], tmp_path: Path) -> None:
    sent = Path(shutil.make_archive(str(tmp_path / "sent"), "tar", tmp_path, "a"))
    places = [tmp_path / f"device {number}" for number in range(5)]
    (tmp_path / "file").write_text("")
    addresses = [f"file://{place}" for place in (*places, tmp_path / "file" / "x")]
    *good, bad = pushing.push(sent, [device.target(address) for address in addresses])
    assert [outcome.target for outcome in good] == addresses[:-1]
    assert all(outcome.done for outcome in good) and not bad.done
    assert {live(place) for place in places} == {sha256(versions[0])}


def test_a_limit_ends_a_device_that_hangs(versions: tuple[Path, Path, Path], tmp_path: Path, python: str) -> None:
    (versions[0] / "runners/python/run.py").write_text("import time; time.sleep(3)")
    base_package.write_checksums(versions[0])
    outcome = push(versions[0], tmp_path / "device", python=python, limit_s=0.8)
    assert outcome.why == "it took longer than 0.8 s"
    assert json.dumps(outcome.seconds) and outcome.seconds < 3
    assert live(tmp_path / "device") is None

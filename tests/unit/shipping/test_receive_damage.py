"""A device whose files are changed under it, whose disk cannot be written, or whose clock is wrong."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.hard import base_package
from tests.device_folder import (
    back,
    kept,
    live,
    push,
    python_of_the_device,
    sha256,
    small_disk,
    three_versions,
    version,
)
from toolchain.shipping import keys, signature

LISTED = (
    "manifest.json", "small/component.json", "small/fp32/model.onnx", "small/fp32/fp32.data", "small/weights.bin",
    "nnx/package.json", "nnx/golden.json", "README.md", "runners/python/run.py",
)  # fmt: skip
"""One file of each kind that a package has."""
TAMPERING = """import sys
from pathlib import Path
place = Path(__file__).resolve().parents[2] / {name!r}
content = bytearray(place.read_bytes())
content[-1] ^= 1
place.unlink()  # the version that is live shares it
place.write_bytes(content)
print('{{"ok": true, "checks": []}}')
"""


def flip(path: Path) -> None:
    """Another last bit, in a file of its own: what other releases share stays."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)


@pytest.fixture
def python(tmp_path: Path) -> str:
    return python_of_the_device(tmp_path)


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, Path, Path]:
    return three_versions(tmp_path)


@pytest.mark.parametrize("name", [*LISTED, "SHA256SUMS"])
def test_what_was_changed_between_its_making_and_its_going_live_does_not(
    name: str, versions: tuple[Path, Path, Path], tmp_path: Path, python: str
) -> None:
    at = tmp_path / "device"
    push(versions[0], at, python=python)
    (versions[1] / "runners/python/run.py").write_text(TAMPERING.format(name=name))
    base_package.write_checksums(versions[1])
    outcome = push(versions[1], at, python=python)
    assert outcome.why == "its files are not the same after its self-test"
    assert (live(at), kept(at)) == (sha256(versions[0]), {sha256(versions[0])})


def test_a_release_that_was_changed_does_not_come_back(
    versions: tuple[Path, Path, Path], tmp_path: Path, python: str
) -> None:
    at = tmp_path / "device"
    for package in versions[:2]:
        push(package, at, python=python)
    for name in (*LISTED, "SHA256SUMS"):
        place = at / "releases" / sha256(versions[0]) / name
        place.rename(tmp_path / "right")
        shutil.copyfile(tmp_path / "right", place)
        flip(place)
        assert back(at, python=python).why == "the version before the live one is gone or damaged", name
        assert live(at) == sha256(versions[1])
        (tmp_path / "right").rename(place)
    assert back(at, python=python).done


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("small/fp32/model.onnx", flip),
        ("small/weights.bin", Path.unlink),
        ("SHA256SUMS", flip),
        ("SHA256SUMS", Path.unlink),
        ("model.sig", flip),
    ],
)
def test_of_a_live_release_that_was_changed_nothing_is_taken(
    name: str,
    damage: Callable[[Path], None],
    versions: tuple[Path, Path, Path],
    tmp_path: Path,
    python: str,
    pair: keys.Pair,
) -> None:
    """Neither by the same version, pushed again, nor by the next one, which shares most files with it."""
    a, b, _ = versions
    for package in (a, b):
        signature.sign(package, pair.private)
    for package in (a, b):
        at = tmp_path / "devices" / package.name
        push(a, at, python=python)
        damage(at / "current" / name)
        outcome = push(package, at, python=python)
        assert outcome.done, outcome.why
        assert live(at) == sha256(package)
        assert (at / "current" / "model.sig").read_bytes() == (package / "model.sig").read_bytes()


@pytest.mark.parametrize("damage", [lambda text: "", lambda text: text[:-100], lambda text: text[65:70] + text])
def test_what_it_keeps_of_blocks_is_only_a_hint(
    damage: Callable[[str], str], versions: tuple[Path, Path, Path], tmp_path: Path, python: str
) -> None:
    at = tmp_path / "device"
    push(versions[0], at, python=python)
    kept_blocks = at / ".nnx" / "split" / sha256(versions[0])
    kept_blocks.write_text(damage(kept_blocks.read_text()))
    assert push(versions[1], at, python=python).done
    assert live(at) == sha256(versions[1])


def test_blocks_that_are_not_what_is_kept_of_them_are_sent_after_all(
    versions: tuple[Path, Path, Path], tmp_path: Path, python: str
) -> None:
    a, b, _ = versions
    at = tmp_path / "device"
    push(a, at, python=python)
    weights = at / "current" / "small" / "weights.bin"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1  # in a block in which the versions are alike
    weights.write_bytes(content)
    outcome = push(b, at, python=python)
    assert outcome.done, outcome.why
    assert outcome.sent_bytes > 4 * 2**20
    assert live(at) == sha256(b)


def test_a_disk_that_cannot_be_written_keeps_what_is_live(
    versions: tuple[Path, Path, Path], tmp_path: Path, python: str
) -> None:
    a, b, c = versions
    with small_disk(tmp_path / "disk", "40m") as disk:
        for package in (a, b):
            assert push(package, disk, python=python).done
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for outcome in (push(c, disk, python=python), back(disk, python=python)):
            assert "Read-only file system" in outcome.why
            assert live(disk) == sha256(b)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert push(c, disk, python=python).done
        assert live(disk) == sha256(c)


@pytest.mark.parametrize("moment", ["1970-01-02 00:00:00", "2100-01-01 00:00:00"])
def test_its_clock_does_not_matter(
    moment: str, versions: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str
) -> None:
    """Each push at another time than what lies there is of."""
    faketime = shutil.which("faketime")
    if faketime is None:
        pytest.skip("no faketime here")
    at, real = tmp_path / "device", subprocess.Popen

    def with_its_clock(command: list[str], **more: object) -> "subprocess.Popen[bytes]":
        return real([faketime, moment, *command], **more)  # type: ignore[call-overload,no-any-return]

    for number, package in enumerate(versions):
        with monkeypatch.context() as patch:
            if number != 1:
                patch.setattr(subprocess, "Popen", with_its_clock)
            outcome = push(package, at, python=python, check="date +%Y >>years")
        assert outcome.done, outcome.why
        assert outcome.sent_bytes < outcome.package_bytes or number == 0
        assert live(at) == sha256(package)
    years = (at / "years").read_text().split()
    assert years[0] == years[2] == moment[:4] != years[1]
    for path in at.rglob("*"):
        os.utime(path, (0, 0), follow_symlinks=False)
    assert back(at, python=python).sha256 == sha256(versions[1])
    assert push(version(tmp_path / "d", "d"), at, python=python).done

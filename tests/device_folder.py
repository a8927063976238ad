"""A folder of this machine as a device that packages are pushed to, and small packages for it."""

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from benchmarks.hard import base_package
from toolchain.shipping import device, pushing
from toolchain.shipping.devices import Outcome
from toolchain.shipping.pushing import Manner

TESTED = """import json, sys
from pathlib import Path
sys.path[:0] = [str(Path(__file__).parent)]
ok = {ok}
print(json.dumps({{"ok": ok, "checks": [{{"name": "golden fp32", "ok": ok, "detail": "is off by 3"}}]}}))
sys.exit(0 if ok else 1)
"""
TOOLS = "cat cp dd head ln mkdir mv readlink rm rmdir sed sha256sum sync tail timeout tr wc xargs"
PYTHON = """#!/bin/sh
PYTHONPATH={modules} exec {python} "$@"
"""


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def python_of_the_device(folder: Path, *, root: Path = Path("/"), python: str | None = None) -> str:
    """One that has an onnxruntime, which small packages' runners do not need; ``root`` is the device's."""
    modules = folder / "modules-of-the-device"
    modules.mkdir(exist_ok=True)
    for name in ("numpy", "onnxruntime"):
        (modules / f"{name}.py").touch()
    found = python or shutil.which("python3", path=os.defpath) or shutil.which("python3")
    text = PYTHON.format(python=found, modules=f"/{modules.relative_to(root)}")
    return f"/{executable(folder / 'python-of-the-device', text).relative_to(root)}"


def three_versions(folder: Path) -> tuple[Path, Path, Path]:
    """Packages that differ; weights of 3 MB of which one block is another in each."""
    return tuple(version(folder / name, name) for name in "abc")  # type: ignore[return-value]


def version(folder: Path, name: str, *, ok: bool = True) -> Path:
    base_package.write(folder)
    weights = bytearray(hashlib.shake_256(b"weights").digest(3 * 2**20 + 1000))
    weights[2**20 : 2**20 + 1] = name.encode()
    (folder / "small" / "weights.bin").write_bytes(weights)
    (folder / "README.md").write_text(f"# {name}\n")
    (folder / "runners/python/run.py").write_text(TESTED.format(ok=ok))
    base_package.write_checksums(folder)
    return folder


def sha256(package: Path) -> str:
    return hashlib.sha256((package / "SHA256SUMS").read_bytes()).hexdigest()


def push(package: Path, folder: Path, **more: object) -> Outcome:
    (outcome,) = pushing.push(package, [device.target(f"file://{folder}")], Manner(**more))  # type: ignore[arg-type]
    return outcome


def back(folder: Path, **more: object) -> Outcome:
    (outcome,) = pushing.roll_back([device.target(f"file://{folder}")], Manner(**more))  # type: ignore[arg-type]
    return outcome


def live(folder: Path) -> str | None:
    """The package that is live, which must be whole and of the name that its folder has."""
    if not (folder / "current").is_symlink():
        return None
    place = folder / "current"
    subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=place, check=True, capture_output=True)
    listed = {line[66:] for line in (place / "SHA256SUMS").read_text().splitlines()}
    found = {path.relative_to(place.resolve()).as_posix() for path in place.resolve().rglob("*") if path.is_file()}
    assert found - {"SHA256SUMS", "model.sig"} == listed
    digest = sha256(place)
    assert str(place.readlink()).rstrip("+") == f"releases/{digest}"
    return digest


class Updated:
    """A device that has two versions and gets a third, over and over, each time with another fault."""

    def __init__(self, folder: Path, address: Callable[[Path], str] = "file://{}".format) -> None:
        self.versions, self._manner = three_versions(folder), Manner(python=python_of_the_device(folder))
        self._at, self._start, self._address = folder / "device", folder / "start", address
        for package in self.versions[:2]:
            assert push(package, self._start, python=self._manner.python).done

    def under(self, fault: AbstractContextManager[None]) -> tuple[Outcome, bool]:
        """What came of a push while the fault lasts, and whether it went live; the next push must do all the rest."""
        shutil.rmtree(self._at, ignore_errors=True)
        shutil.copytree(self._start, self._at, symlinks=True)
        before, new = (sha256(package) for package in self.versions[1:])
        with fault:
            outcome = self._push()
        is_live = live(self._at) == new
        assert is_live or (live(self._at) == before and not outcome.done)
        assert before in kept(self._at)
        after = self._push()  # whatever was left is in nobody's way
        assert after.done, after.why
        assert (live(self._at), kept(self._at)) == (new, {before, new})
        assert str((self._at / ".nnx" / "before" / new).readlink()) == f"releases/{before}"
        return outcome, is_live

    def _push(self) -> Outcome:
        (outcome,) = pushing.push(self.versions[2], [device.target(self._address(self._at))], self._manner)
        return outcome


def kept(folder: Path) -> set[str]:
    return {path.name for path in (folder / "releases").iterdir()}


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of its own, where the rights are there to mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here, for want of rights")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def tools(folder: Path, wrapper: str = "") -> Path:
    """A folder with nothing but what a device needs, each through the wrapper where one is given."""
    folder.mkdir()
    for name in ("sh", "flock", *TOOLS.split()):
        found = shutil.which(name)
        if found is None:
            continue
        if wrapper and name != "sh":  # processes are killed here, not the system: what is flushed does not matter
            executable(folder / name, wrapper.format(tool="true" if name == "sync" else found))
        else:
            (folder / name).symlink_to(found)
    return folder

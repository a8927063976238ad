"""A folder of this machine as a device that packages are pushed to, and small packages for it."""

import hashlib
import os
import shutil
import stat
import subprocess
from pathlib import Path

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
TOOLS = "cat cp dd find head ln mkdir mv readlink rm rmdir sha256sum sync tail tar timeout wc"
PYTHON = """#!/bin/sh
if [ "$1" = -c ]; then exit 0; fi
exec {python} "$@"
"""


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def python_of_the_device(folder: Path) -> str:
    """One that says that it has onnxruntime: the small packages' runners need none."""
    found = shutil.which("python3", path=os.defpath) or shutil.which("python3")
    return str(executable(folder / "python-of-the-device", PYTHON.format(python=found)))


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


def kept(folder: Path) -> set[str]:
    return {path.name for path in (folder / "releases").iterdir()}


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

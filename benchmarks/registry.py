"""How long a package of a gigabyte takes to a registry on this machine and back, and how much memory: beside skopeo.

``make registry``. The registry is Debian's docker-registry, on the loopback, so that no network is measured.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.hard import base_package
from tests import registry_process
from toolchain.shipping import checksums

_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Taken:
    what: str
    seconds: float
    peak_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1_000)
    megabytes = parser.parse_args().megabytes
    with tempfile.TemporaryDirectory() as place, registry_process.running(Path(place) / "registry") as registry:
        folder = Path(place)
        package = base_package.write(folder / "large.ortpackage")
        with (package / "small" / "weights.bin").open("wb") as weights:
            for _ in range(megabytes * 10**6 // _CHUNK_BYTES):
                weights.write(os.urandom(_CHUNK_BYTES))
        checksums.write(package)
        nnx, address = [sys.executable, "-m", "toolchain"], f"oci://{registry.place}/large:1"
        pulled = folder / "pulled.ortpackage"
        taken = [
            _run("nnx verify", [*nnx, "verify", str(package)]),
            _run("nnx push", [*nnx, "push", str(package), address]),
            _run("nnx push, the same again", [*nnx, "push", str(package), address]),
            _run("nnx pull", [*nnx, "pull", address, "-o", str(pulled)]),
            _run("nnx pull, the same again", [*nnx, "pull", address, "-o", str(pulled)]),
        ]
        if shutil.which("skopeo"):
            source, layout = f"docker://{registry.place}/large:1", f"oci:{folder / 'layout'}:1"
            taken.append(_run("skopeo copy to a folder", ["skopeo", "copy", "--src-tls-verify=false", source, layout]))
    print(f"| {megabytes} MB | s | MB/s | peak MB |\n| --- | --- | --- | --- |")
    for each in taken:
        print(f"| {each.what} | {each.seconds:.1f} | {megabytes / each.seconds:.0f} | {each.peak_mb:.0f} |")


def _run(what: str, command: list[str]) -> Taken:
    began = time.monotonic()
    process = os.posix_spawnp(
        command[0], command, {**os.environ, "DOCKER_CONFIG": "/nowhere"},
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )  # fmt: skip
    _, status, used = os.wait4(process, 0)
    if status:
        sys.exit(f"{what} failed")
    return Taken(what, time.monotonic() - began, used.ru_maxrss / 1024)


if __name__ == "__main__":
    main()

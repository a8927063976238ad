"""Write requirements-hashed.txt: every version of constraints.txt with the hashes of the files that pip takes for it.

For Linux on x86-64 and each Python that is claimed, so that `pip install --require-hashes` refuses any other file. Not
for PyTorch: which build of it is right is the machine's matter, and a build that an index of its own offers has a
version and a hash of its own.
"""

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PINS = ROOT / "constraints.txt"
HASHED = ROOT / "requirements-hashed.txt"
PYTHONS = ("3.11.9", "3.12.9", "3.13.9")  # some want the last digit: pymdown-extensions is for 3.11.5 and later
_UNHASHED = "torch"
_HEADER = """\
# What constraints.txt pins, but for torch, with the hashes for Linux on x86-64; `make constraints` writes it.
"""


def pins() -> list[str]:
    """The lines of constraints.txt that have hashes."""
    lines = PINS.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#") and line.partition("==")[0] != _UNHASHED]


def hashes(python: str) -> dict[str, str]:
    """Pin -> sha256 of the file that pip would take for it; nothing is installed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps", "--ignore-installed"]
        command += ["--python-version", python, "--only-binary", ":all:", "--target", folder, "--report", "-"]
        ended = subprocess.run([*command, *pins()], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"pip finds no files for Python {python}:\n{ended.stderr}")
    offered = json.loads(ended.stdout[ended.stdout.index("{") :])["install"]
    found = {_key(each["metadata"]["name"]): each["download_info"]["archive_info"]["hashes"] for each in offered}
    return {pin: found[_key(pin.partition("==")[0])]["sha256"] for pin in pins()}


def _key(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def main() -> None:
    found: dict[str, set[str]] = defaultdict(set)
    with ThreadPoolExecutor() as pool:  # pip waits for its index most of the time
        for each in pool.map(hashes, PYTHONS):
            for pin, sha256 in each.items():
                found[pin].add(sha256)
    lines = [" \\\n    ".join([pin, *(f"--hash=sha256:{each}" for each in sorted(found[pin]))]) for pin in pins()]
    HASHED.write_text(_HEADER + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

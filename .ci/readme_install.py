"""The README's own install lines, as they stand, in a fresh environment of each Python that is claimed and at hand.

Where pip offers no PyTorch but one with CUDA, gigabytes of it, all else is installed by its name, and that is said.
Then nnx must start; with PyTorch the doctor must miss nothing. Exits with 1 when a line fails anywhere.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from check_pythons import PINNED, ROOT, Outcome, claimed, interpreter, requirements, torch_to_take


def lines() -> list[str]:
    """What the README says to type."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Install\n")[2].partition("\n## ")[0]
    found = [line for line in section.splitlines() if line.startswith("pip install ")]
    if not found:
        raise SystemExit("README.md says nowhere how to install nnx.")
    return found


def without_torch() -> list[str]:
    """What stands for these lines where there is no PyTorch to take."""
    names = " ".join(f"'{each}'" for each in requirements(extras=("cpu", "recipes", "report")))
    return [f"pip install -c constraints.txt {names}", "pip install --no-deps -e ."]


def tried(version: str) -> Outcome:
    """Make the environment, type the lines, start what they installed."""
    found = interpreter(version)
    if found is None:
        return Outcome(version, f"skipped: there is no Python {version} here")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nnx-readme-") as folder:
        subprocess.run([found, "-m", "venv", folder], check=True)
        torch, why = torch_to_take(Path(folder) / "bin" / "python", PINNED, cuda=False)
        asked = ["nnx --version", *(["nnx doctor"] if torch else [])]
        for line in [*(lines() if torch else without_torch()), *asked]:
            ended = _typed(line, Path(folder))
            if ended.returncode:
                return Outcome(version, f"FAILED: {line}\n{ended.stdout}{ended.stderr}", failed=True)
    seconds = time.monotonic() - started
    return Outcome(version, "; ".join(filter(None, [f"installed and started in {seconds:.0f} s", why])))


def _typed(line: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Twice where it fails: pip goes on after no connection that breaks in the middle of a file."""
    for last in (False, True):
        ended = subprocess.run(
            ["sh", "-c", line], cwd=ROOT, env=inside(folder), capture_output=True, text=True, check=False
        )
        if last or not ended.returncode:
            return ended
    raise AssertionError("the last try returns")


def inside(folder: Path) -> dict[str, str]:
    """As after ``. bin/activate``."""
    kept = {name: value for name, value in os.environ.items() if not re.match(r"PYTHON|VIRTUAL_ENV", name)}
    quiet = {"PIP_QUIET": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return {**kept, **quiet, "VIRTUAL_ENV": str(folder), "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def main() -> int:
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(tried, claimed()))
    print("\n".join(f"{each.name:8} {each.said}" for each in outcomes))
    return int(any(each.failed for each in outcomes))


if __name__ == "__main__":
    sys.exit(main())

"""The quick tests on each Python that pyproject.toml claims and this machine has, and once on the newest libraries.

Every environment lies in a folder of its own, below .venv-pythons/. PyTorch's wheels for Linux on PyPI come with CUDA,
gigabytes of it: where pip finds no other build, only the tests that need no PyTorch run, and that is said. --cuda takes
it nevertheless. Exits with 1 when a test fails anywhere.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / ".venv-pythons"
PINNED = ("-c", str(ROOT / "constraints.txt"))
NEWEST = "newest"
NEWEST_ON = "3.11"
EXTRAS = ("cpu", "recipes", "report", "dev", "docs")
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@dataclass(frozen=True)
class Outcome:
    """What came of one environment, as a line of the table at the end."""

    name: str
    said: str
    failed: bool = False


def claimed() -> list[str]:
    """The Pythons of ``requires-python``."""
    wanted = SpecifierSet(_PROJECT["requires-python"])
    return [version for version in (f"3.{minor}" for minor in range(8, 30)) if wanted.contains(f"{version}.0")]


def interpreter(version: str) -> Path | None:
    """On PATH or among pyenv's; a shim of pyenv that starts no Python does not count."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)]
    for each in found:
        if each and _answers(each, version):
            return Path(each)
    return None


def _answers(python: str | Path, version: str) -> bool:
    command: list[str | Path] = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.returncode == 0 and ended.stdout.strip() == version


def requirements(extras: tuple[str, ...] = EXTRAS) -> list[str]:
    """What nnx and its tests want, or nnx with other ``extras``, but for PyTorch."""
    optional = _PROJECT["optional-dependencies"]
    wanted = [*_PROJECT["dependencies"], *(each for extra in extras for each in optional[extra])]
    return [each for each in wanted if not re.match(r"torch\b", each)]


def check(version: str, *, newest: bool, cuda: bool) -> Outcome:
    """Build the environment, run the tests, say what came of it."""
    name = NEWEST if newest else version
    found = interpreter(version)
    if found is None:
        return Outcome(name, f"skipped: there is no Python {version} here")
    folder = ENVIRONMENTS / name
    print(f"== {name}: {found}", flush=True)
    subprocess.run([found, "-m", "venv", "--clear", folder], check=True)
    python = folder / "bin" / "python"
    limits = () if newest else PINNED
    pip(python, "--upgrade", "pip")
    torch, without = torch_to_take(python, limits, cuda=cuda)
    if torch is None and newest:  # the newest of all else stands beside the build that can be had
        torch, without = torch_to_take(python, PINNED, cuda=cuda)
    if torch is not None:
        pip(python, *limits, torch)
    pip(python, *limits, *requirements(), *([torch] if torch else []))
    pip(python, "--no-deps", "-e", str(ROOT))
    rings = ["tests/unit", *(["tests/contract"] if torch else [])]
    ended = subprocess.run(
        [python, "-m", "pytest", "-q", "-m", "not slow and not sweep", *rings], cwd=ROOT, check=False
    )
    said = [f"{', '.join(rings)} {'passed' if ended.returncode == 0 else 'FAILED'}", without, versions(python)]
    return Outcome(name, "; ".join(part for part in said if part), failed=ended.returncode != 0)


def torch_to_take(python: Path, limits: tuple[str, ...], *, cuda: bool) -> tuple[str | None, str]:
    """The requirement of the PyTorch that pip would take, None for one of gigabytes; and then why there is none."""
    command: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--no-deps",
        "--quiet",
        "--report",
        "-",
        *limits,
        "torch",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        return None, "pip finds no PyTorch"
    (offered,) = json.loads(ended.stdout[ended.stdout.index("{") :])["install"]
    metadata = offered["metadata"]
    with_cuda = any(re.match(r"(nvidia|cuda)-", each) for each in metadata.get("requires_dist", []))
    if with_cuda and not cuda:
        return None, f"without PyTorch: {metadata['version']} is to be had with CUDA only"
    return f"torch=={metadata['version']}", ""


def pip(python: Path, *arguments: str) -> None:
    command: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, cwd=ROOT, check=True)


def versions(python: Path) -> str:
    """Those of the libraries that matter most."""
    script = (
        "from importlib.metadata import PackageNotFoundError as No, version as of\n"
        "for name in ('torch', 'onnx', 'onnxruntime', 'numpy'):\n"
        "    try: print(name, of(name))\n"
        "    except No: pass\n"
    )
    ended = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    return ", ".join(ended.stdout.splitlines())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="PYTHON", help=f"of {', '.join(claimed())}, {NEWEST}; all if none")
    parser.add_argument("--cuda", action="store_true", help="take a PyTorch with CUDA where there is no other")
    given = parser.parse_args()
    outcomes = []
    for name in given.names or [*claimed(), NEWEST]:
        version = NEWEST_ON if name == NEWEST else name
        outcomes.append(check(version, newest=name == NEWEST, cuda=given.cuda))
    print("\n".join(("", *(f"{each.name:8} {each.said}" for each in outcomes))))
    return int(any(each.failed for each in outcomes))


if __name__ == "__main__":
    sys.exit(main())

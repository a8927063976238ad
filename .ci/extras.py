"""Each extra that users install, in a fresh environment: what it is for works there, and is refused by name without it.

One environment gets PyTorch, nnx and the extra `cpu`; each other extra goes into a copy of that. Where pip cannot
install one, that is said, and is no failure of nnx. Exits with 1 when a command ends otherwise than it should.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from check_pythons import PINNED, ROOT, Outcome, torch_to_take
from readme_install import inside

_NOT_AVAILABLE = 3
_NET = (
    "import torch\ntorch.manual_seed(0)\nnet = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 3))\n"
)
_CALIBRATION = """
import numpy as np
np.savez("calibration.npz", x=np.random.default_rng(0).normal(size=(32, 64)).astype(np.float32))
"""
_BEFORE = (
    f"python - <<'END'{_CALIBRATION}END",
    "nnx export net.py:net --input 'x=float32[batch,64]' -o net.onnx",
    "nnx bench net.onnx --max-time 1s -o rows.json",
    "nnx pack net.onnx -o net.ortpackage",
)
_QUANTIZE = "nnx quantize net.onnx --int8 --mode static --calibration"
_BERT = """
import transformers
config = transformers.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
transformers.BertForSequenceClassification(config).save_pretrained("bert")
"""
_ARROW = """
import datasets, numpy as np
rows = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32)
datasets.Dataset.from_dict({"x": rows.tolist()}).save_to_disk("arrow")
"""
_ASKED = """
import subprocess, sys, time, urllib.request
server = subprocess.Popen([sys.executable, "-m", "toolchain", "serve", "net.ortpackage", "--port", "18766"])
try:
    for _ in range(200):
        time.sleep(0.1)
        try:
            sys.exit(urllib.request.urlopen("http://127.0.0.1:18766/v2/health/ready").status != 200)
        except OSError:
            if server.poll() is not None:
                sys.exit("it ended")
finally:
    server.terminate()
    server.wait()
sys.exit("it does not answer")
"""


@dataclass(frozen=True)
class Extra:
    """``works`` are lines that end with 0 where it is installed; without it the ``refused`` one ends with 3."""

    works: tuple[str, ...]
    refused: str | None = None


EXTRAS = {
    "recipes": Extra(("nnx train digits --epochs 1 --no-compile --out trained",), "nnx train digits --epochs 1"),
    "report": Extra(("nnx report rows.json -o page.html",), "nnx report rows.json -o page.html"),
    "hf": Extra((f"python - <<'END'{_BERT}END", "nnx export ./bert -o bert.onnx"), "nnx export ./bert -o bert.onnx"),
    "slim": Extra(("nnx convert net.onnx --simplify -o slim.onnx",)),
    "datasets": Extra((f"python - <<'END'{_ARROW}END", f"{_QUANTIZE} ./arrow"), f"{_QUANTIZE} ./arrow"),
    "sign": Extra(
        ("nnx keys new release", "nnx pack net.onnx -o own.ortpackage --sign release.key"), "nnx keys new my"
    ),
    "serve": Extra((f"python - <<'END'{_ASKED}END",), "nnx serve net.ortpackage"),
    "ray": Extra((f"{_QUANTIZE} calibration.npz --ray auto",), f"{_QUANTIZE} calibration.npz --ray auto"),
    "timm": Extra(("nnx export timm:resnet18 -o timm.onnx",), "nnx export timm:resnet18 -o timm.onnx"),
}


class Environment:
    """A virtual environment and the folder that its lines are typed in."""

    def __init__(self, folder: Path, here: Path) -> None:
        self._folder, self._here = folder, here

    def pip(self, *arguments: str) -> str:
        """Install; why that failed, "" where it did not. Twice, as a connection may break in the middle of a file."""
        python = self._folder / "bin" / "python"
        command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments]
        for _ in range(2):
            ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if not ended.returncode:
                return ""
        return (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]

    def typed(self, line: str) -> "subprocess.CompletedProcess[str]":
        """As after ``. bin/activate``, but that ``nnx`` is that of a copied environment."""
        shown = re.sub(r"^nnx ", "python -P -m toolchain ", line)
        return subprocess.run(
            ["sh", "-c", shown], cwd=self._here, env=inside(self._folder), capture_output=True, text=True, check=False
        )

    def copied(self, folder: Path) -> "Environment":
        """With links to the same files, none of which pip writes into: it removes what it replaces."""
        shutil.copytree(self._folder, folder, symlinks=True, copy_function=os.link)
        return Environment(folder, self._here)


def tried(name: str, base: Environment, folder: Path) -> Outcome:
    """The extra in a copy of ``base``, then without it."""
    started = time.monotonic()
    extra, own = EXTRAS[name], base.copied(folder)
    if why := own.pip(*PINNED, "-e", f".[cpu,{name}]"):
        return Outcome(name, f"skipped: pip cannot install it: {why}")
    for line in extra.works:
        ended = own.typed(line)
        if ended.returncode == _NOT_AVAILABLE and "nnx-toolchain[" not in ended.stderr:  # a library lacks another
            return Outcome(name, f"skipped: {' '.join(ended.stderr.split())}")
        if ended.returncode:
            return Outcome(name, f"FAILED: {line}\n{ended.stdout}{ended.stderr}", failed=True)
    if extra.refused is not None:
        ended = base.typed(extra.refused)
        if ended.returncode != _NOT_AVAILABLE or f"nnx-toolchain[{name}]" not in ended.stderr:
            said = f"FAILED: without it, {extra.refused} ended with {ended.returncode}\n{ended.stderr}"
            return Outcome(name, said, failed=True)
    return Outcome(name, f"works, and is asked for where it is missing; {time.monotonic() - started:.0f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="EXTRA", help=f"of {', '.join(EXTRAS)}; all if none")
    names = parser.parse_args().names or list(EXTRAS)
    if unknown := set(names) - set(EXTRAS):
        raise SystemExit(f"{', '.join(sorted(unknown))}: no extra that is tried here; there are {', '.join(EXTRAS)}.")
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="nnx-extras-") as made:
        folder, here = Path(made) / "base", Path(made) / "here"
        here.mkdir()
        (here / "net.py").write_text(_NET, encoding="utf-8")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        torch, why = torch_to_take(folder / "bin" / "python", PINNED, cuda=False)
        if torch is None:
            print(f"skipped: {why}")
            return 0
        base = Environment(folder, here)
        if why := base.pip(*PINNED, torch) or base.pip(*PINNED, "-e", ".[cpu]"):
            raise SystemExit(f"pip cannot install nnx with the extra cpu: {why}")
        for line in _BEFORE:
            if (ended := base.typed(line)).returncode:
                raise SystemExit(f"With the extra cpu alone this fails: {line}\n{ended.stdout}{ended.stderr}")
        for name in names:
            own = Path(made) / name
            outcomes.append(tried(name, base, own))
            shutil.rmtree(own, ignore_errors=True)
            print(f"{name:8} {outcomes[-1].said}", flush=True)
    return int(any(each.failed for each in outcomes))


if __name__ == "__main__":
    sys.exit(main())

"""``nnx export`` of modules written the way people write them, by the real command."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from runtimes.base import run
from runtimes.ort import OrtRuntime

Nnx = Callable[..., tuple[int, str, str]]
MODULES = """
import sys, torch
from torch import nn
print("at import")
class Minus(nn.Module):
    def forward(self, a, b): return {"difference": a - b, "none": None}
def swapped(): return Minus(), {"b": torch.ones(2, 4), "a": torch.zeros(2, 4)}
class Branch(nn.Module):
    def forward(self, x): return x * 2 if x.shape[0] >= 16 else x + 1
class Divide(nn.Module):
    def forward(self, parts, t):
        print("in forward")
        return (parts[0] + parts[1]) / t
def nested(): return nn.DataParallel(Divide()), {"parts": [torch.ones(2, 4), torch.ones(2, 4)], "t": torch.tensor(4.0)}
class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
    def forward(self, x):
        self.calls += 1
        return x * self.calls
class Log(nn.Module):
    def forward(self, x): return x.log()
class Mute(Exception):
    def __str__(self): raise RuntimeError
class Raises(nn.Module):
    def forward(self, x): raise Mute
def exits(): sys.exit(3)
"""
X = ("--input", "x=float32[1,4]")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("m.py").write_text(MODULES)
    Path("arguments.py").write_text("import argparse; argparse.ArgumentParser().parse_args(['--x'])")
    return tmp_path


def test_inputs_are_forwards_by_name(place: Path, nnx: Nnx) -> None:
    code, out, _ = nnx("export", "m.py:swapped", "-o", "m.onnx", "--json")
    assert code == 0
    assert json.loads(out)["parity"]["passed"]
    feeds = {"b": np.ones((3, 4), np.float32), "a": np.zeros((3, 4), np.float32)}
    with OrtRuntime(place / "m.onnx") as runtime:
        assert run(runtime, feeds)["difference"].tolist() == (-np.ones((3, 4))).tolist()


def test_lists_and_numbers_are_inputs_and_prints_are_no_results(place: Path, nnx: Nnx) -> None:
    code, out, _ = nnx("export", "m.py:nested", "-o", "m.onnx")
    assert code == 0
    assert "at import" not in out
    assert "in forward" not in out
    inputs = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in onnx.load("m.onnx").graph.input
    }
    assert inputs == {"parts.0": ["batch", 4], "parts.1": ["batch", 4], "t": []}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["m.py:Branch", *X], "batch is 16"),
        (["m.py:Counts", *X], "the buffer calls"),
        (["m.py:Log", *X], "--samples"),
        (["m.py:Raises", *X], "Mute"),
        (["m.py:exits", *X], "SystemExit: 3"),
        (["arguments.py:make", *X], "could not be loaded"),
        (["m.py:Minus", "--input", "a=float32[1,4]"], "nothing is given for b"),
        (["m.py:Log", "--input", "x=float32[1,1000000000,1000000]"], "this machine has"),
        (["m.py:Minus", *X, "--data", "."], "--data would do nothing for a model that is no recipe"),
        (["m.py:Counts", *X, "--bisect", "--output-name", "y"], "--output-name would do nothing with --bisect"),
        (["m.py:Counts", *X, "--bisect", "--external-data", "always"], "--external-data would do nothing"),
        (["m.py:Counts", *X, "--bisect", "--data", "."], "--data would do nothing with --bisect"),
    ],
)
def test_what_cannot_be_right_is_refused_in_one_sentence(
    given: Sequence[str], named: str, place: Path, nnx: Nnx
) -> None:
    code, out, err = nnx("export", *given, "-o", "m.onnx")
    assert code == (3 if "machine" in named else 2)
    assert named in err
    assert "Traceback" not in err
    assert not out
    assert not Path("m.onnx").exists()


def test_the_smallest_module_that_fails_is_named_and_shown(place: Path, nnx: Nnx) -> None:
    Path("deep.py").write_text(
        "import torch, m\n"
        "class Deep(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.first, self.last = torch.nn.Linear(4, 4), m.Counts()\n"
        "    def forward(self, x): return self.last(self.first(x))\n"
    )
    code, out, err = nnx("export", "deep.py:Deep", *X, "--bisect", "-o", "deep.onnx", "--json")
    assert code == 1
    finding = json.loads(out)["finding"]
    assert (finding["module"], finding["kind"], Path(finding["file"]).name) == ("last", "Counts", "m.py")
    assert "changes the buffer calls" in finding["what"]
    assert finding["repro"] == "deep.repro.py"
    assert "the smallest part that fails is 'last' (Counts)" in err
    assert "Traceback" not in err
    assert not Path("deep.onnx").exists()
    (place / "elsewhere").mkdir()
    shown = (place / "deep.repro.py").rename(place / "elsewhere" / "shown.py")
    done = subprocess.run([sys.executable, shown.name], cwd=shown.parent, capture_output=True, text=True, check=False)
    assert (done.returncode, "FAULT: forward() gives another answer" in done.stdout) == (1, True)


def test_a_bisection_writes_over_nothing_and_takes_no_recipe(place: Path, nnx: Nnx) -> None:
    Path("deep.repro.py").write_text("mine = 1\n")
    code, out, err = nnx("export", "m.py:Counts", *X, "--bisect", "-o", "deep.onnx")
    assert (code, out) == (2, "")
    assert "was not written by --bisect" in err
    assert Path("deep.repro.py").read_text() == "mine = 1\n"
    code, _, err = nnx("export", "digits", "--bisect", "-o", "deep.onnx")
    assert code == 2
    assert "a model, not a recipe" in err

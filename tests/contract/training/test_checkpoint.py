"""Weights as people save them are found and fit; what is refused is named."""

import argparse
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from exporters.errors import ExporterError
from toolchain.errors import BadUsage
from toolchain.training import checkpoint


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


WEIGHTS = net().state_dict()


def prefixed(prefix: str) -> dict[str, Any]:
    return {prefix + name: value for name, value in WEIGHTS.items()}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (WEIGHTS, ""),
        ({"model": WEIGHTS, "epoch": 3}, ""),
        (prefixed("module."), "module."),
        (prefixed("_orig_mod."), "_orig_mod."),
        (prefixed("module._orig_mod."), "module._orig_mod."),
        ({"state_dict": WEIGHTS, "epoch": 3}, "state_dict"),
        ({"model_state_dict": WEIGHTS, "optimizer": {"state": {}}}, "model_state_dict"),
        ({"state_dict": prefixed("model.")}, "model."),
        ({"n_averaged": torch.tensor(3), **prefixed("module.")}, "module."),
        ({name.replace(".", "._orig_mod."): value for name, value in WEIGHTS.items()}, "_orig_mod."),
        ({"state": {"net": WEIGHTS}}, "state.net"),
        ({"ema": WEIGHTS, "state_dict": WEIGHTS}, "state_dict"),
    ],
)
def test_the_one_set_of_weights_that_fits_is_found(content: Any, told: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    module = net()
    notes = checkpoint.load_weights(module, tmp_path / "w.pt")
    assert all(torch.equal(value, WEIGHTS[name]) for name, value in module.state_dict().items())
    assert bool(notes) == bool(told)
    assert told in " ".join(notes)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"model": WEIGHTS, "args": argparse.Namespace(lr=0.1)}, "argparse.Namespace"),
        ({"model": WEIGHTS, "best": np.float64(0.9)}, "numpy"),
        ({name: value * float("nan") for name, value in WEIGHTS.items()}, "'0.weight' .* NaN"),
        ({name: value.to("meta") for name, value in WEIGHTS.items()}, "meta device"),
        ({"teacher": WEIGHTS, "student": WEIGHTS}, "teacher, student"),
        ({**WEIGHTS, "0.weight": torch.zeros(3, 3)}, r"0.weight is \[3, 3\], wanted \[8, 4\]"),
        ({**WEIGHTS, "0.weight": "text"}, "0.weight is a str"),
        ({}, "missing 0.weight"),
        ({3: WEIGHTS}, "missing 0.weight"),
        ([1, 2], "holds a list"),
    ],
)
def test_what_is_in_the_way_is_named(content: Any, named: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(BadUsage, match=named):
        checkpoint.load_weights(net(), tmp_path / "w.pt")


def test_what_is_no_checkpoint_is_refused_in_one_sentence(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    for number, content in enumerate(
        (b"", b"garbage", whole[:200], whole[:-40], b"\x80\x02" + b"(" * 5000, whole[100:])
    ):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(content)
        with pytest.raises(BadUsage):
            checkpoint.load_weights(net(), path)
    with pytest.raises(BadUsage, match="not a file"):
        checkpoint.load(tmp_path)
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", b"\0" * 20_000_000)
    with pytest.raises(BadUsage, match="unpacks to"):
        checkpoint.load(tmp_path / "bomb.pt")


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(prefixed("model."), tmp_path / "w.safetensors")
    module = net()
    assert checkpoint.load_weights(module, tmp_path / "w.safetensors")
    assert torch.equal(module.state_dict()["0.weight"], WEIGHTS["0.weight"])
    whole = (tmp_path / "w.safetensors").read_bytes()
    for content in (b"", b"garbage", whole[:40], whole[:-8], b"\xff" * 64):
        (tmp_path / "w.safetensors").write_bytes(content)
        with pytest.raises(BadUsage, match="safetensors"):
            checkpoint.load_weights(module, tmp_path / "w.safetensors")


def test_nothing_in_a_checkpoint_runs(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"model": WEIGHTS, "trap": Trap()}, tmp_path / "w.pt")
    with pytest.raises(BadUsage):
        checkpoint.load_weights(net(), tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_lazy_layer_is_named_before_its_weights_are_loaded(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "w.pt")
    with pytest.raises(ExporterError, match="lazy"):
        checkpoint.load_weights(nn.Sequential(nn.LazyLinear(8)), tmp_path / "w.pt")

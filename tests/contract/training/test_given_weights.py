"""Weights as people save them are found and fit; what is refused is named."""

import argparse
import datetime
import fractions
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
from toolchain.training import checkpoint, given_weights
from toolchain.training.given_weights import Weights


def net() -> nn.Sequential:
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
        ({"model": WEIGHTS, "args": argparse.Namespace(lr=0.1)}, ""),
        ({"model": WEIGHTS, "best": np.float64(0.9), "curve": np.ones(3, np.float32)}, ""),
        ({"model": WEIGHTS, "saved": datetime.datetime(2026, 1, 1), "to": Path("runs/1")}, ""),
        ({"state_dict": {**prefixed("model."), "criterion.weight": torch.ones(2)}}, "left out: criterion.weight"),
    ],
)
def test_the_one_set_of_weights_that_fits_is_found(content: Any, told: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    module = net()
    notes = given_weights.load(module, Weights(file=tmp_path / "w.pt"))
    assert all(torch.equal(value, WEIGHTS[name]) for name, value in module.state_dict().items())
    assert bool(notes) == bool(told)
    assert told in " ".join(notes)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"model": WEIGHTS, "lr": fractions.Fraction(1, 3)}, "fractions.Fraction"),
        ({**WEIGHTS, "2.more": torch.ones(1)}, "unexpected 2.more"),
        ({name: value * float("nan") for name, value in WEIGHTS.items()}, "'0.weight' .* NaN"),
        ({name: value.to("meta") for name, value in WEIGHTS.items()}, "meta device"),
        ({"teacher": WEIGHTS, "student": WEIGHTS}, "teacher, student"),
        ({**WEIGHTS, "0.weight": torch.zeros(3, 3)}, r"misshapen 0.weight \(\[3, 3\], wanted \[8, 4\]\)"),
        ({**WEIGHTS, "0.weight": "text"}, r"no tensor 0.weight \(a str\)"),
        ({}, "missing 0.weight"),
        ({3: WEIGHTS}, "missing 0.weight"),
        ([1, 2], "holds a list"),
    ],
)
def test_what_is_in_the_way_is_named(content: Any, named: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(BadUsage, match=named):
        given_weights.load(net(), Weights(file=tmp_path / "w.pt"))


def test_what_is_no_checkpoint_is_refused_in_one_sentence(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    for number, content in enumerate(
        (b"", b"garbage", whole[:200], whole[:-40], b"\x80\x02" + b"(" * 5000, whole[100:])
    ):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(content)
        with pytest.raises(BadUsage):
            given_weights.load(net(), Weights(file=path))
    with pytest.raises(BadUsage, match="not a file"):
        checkpoint.load(tmp_path)
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", b"\0" * 20_000_000)
    with pytest.raises(BadUsage, match="unpacks to"):
        checkpoint.load(tmp_path / "bomb.pt")


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(prefixed("model."), tmp_path / "w.safetensors")
    module = net()
    assert given_weights.load(module, Weights(file=tmp_path / "w.safetensors"))
    assert torch.equal(module.state_dict()["0.weight"], WEIGHTS["0.weight"])
    whole = (tmp_path / "w.safetensors").read_bytes()
    for content in (b"", b"garbage", whole[:40], whole[:-8], b"\xff" * 64):
        (tmp_path / "w.safetensors").write_bytes(content)
        with pytest.raises(BadUsage, match="safetensors"):
            given_weights.load(module, Weights(file=tmp_path / "w.safetensors"))


def test_nothing_in_a_checkpoint_runs(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"model": WEIGHTS, "trap": Trap()}, tmp_path / "w.pt")
    with pytest.raises(BadUsage):
        given_weights.load(net(), Weights(file=tmp_path / "w.pt"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_lazy_layer_is_named_before_its_weights_are_loaded(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "w.pt")
    with pytest.raises(ExporterError, match="lazy"):
        given_weights.load(nn.Sequential(nn.LazyLinear(8)), Weights(file=tmp_path / "w.pt"))


def test_a_key_says_which_of_several_sets(tmp_path: Path) -> None:
    zeros = {name: torch.zeros_like(value) for name, value in WEIGHTS.items()}
    torch.save({"teacher": {"net": zeros}, "student": {"net": WEIGHTS}}, tmp_path / "w.pt")
    module = net()
    given_weights.load(module, Weights(file=tmp_path / "w.pt", key="teacher.net"))
    assert not any(value.any() for value in module.state_dict().values())
    with pytest.raises(BadUsage, match="no dict under 'tutor'") as caught:
        given_weights.load(module, Weights(file=tmp_path / "w.pt", key="tutor"))
    assert "teacher, teacher.net, student, student.net" in caught.value.do


def test_a_prefix_says_which_weights_of_many(tmp_path: Path) -> None:
    torch.save({**prefixed("a.b."), **prefixed("c."), "other": torch.ones(1)}, tmp_path / "w.pt")
    module = net()
    with pytest.raises(BadUsage):
        given_weights.load(module, Weights(file=tmp_path / "w.pt"))
    notes = given_weights.load(module, Weights(file=tmp_path / "w.pt", strip_prefix="a.b."))
    assert "left out: c.0.weight" in " ".join(notes)


def test_what_does_not_fit_is_left_out_on_request(tmp_path: Path) -> None:
    torch.save({**WEIGHTS, "2.weight": torch.zeros(3, 8), "2.bias": torch.zeros(3)}, tmp_path / "w.pt")
    module, fresh = net(), net()
    with pytest.raises(BadUsage, match=r"misshapen 2.weight .*, 2.bias"):
        given_weights.load(module, Weights(file=tmp_path / "w.pt"))
    module.load_state_dict(fresh.state_dict())
    notes = given_weights.load(module, Weights(file=tmp_path / "w.pt", strict=False))
    assert "misshapen 2.weight" in " ".join(notes)
    assert torch.equal(module.get_parameter("0.weight"), WEIGHTS["0.weight"])
    assert torch.equal(module.get_parameter("2.weight"), fresh.get_parameter("2.weight"))
    torch.save({"other": torch.ones(1)}, tmp_path / "w.pt")
    with pytest.raises(BadUsage, match=r"missing 0\.weight"):
        given_weights.load(module, Weights(file=tmp_path / "w.pt", strict=False))


def test_ten_names_are_listed_and_the_others_counted(tmp_path: Path) -> None:
    torch.save({**WEIGHTS, **{f"more.{place}": torch.ones(1) for place in range(25)}}, tmp_path / "w.pt")
    with pytest.raises(BadUsage, match=r"more.9 and 15 more"):
        given_weights.load(net(), Weights(file=tmp_path / "w.pt"))


def test_what_files_lack_rightly_is_filled(tmp_path: Path) -> None:
    """A tied weight is saved once by some, and old checkpoints have no count in their batch norms."""

    def made() -> nn.Sequential:
        layers = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False), nn.BatchNorm1d(5))
        layers[1].weight = layers[0].weight
        return layers

    saved = made().state_dict()
    torch.save(
        {name: saved[name] for name in saved if name not in ("1.weight", "2.num_batches_tracked")}, tmp_path / "w.pt"
    )
    module = made()
    assert not given_weights.load(module, Weights(file=tmp_path / "w.pt"))
    assert torch.equal(module.get_parameter("1.weight"), saved["0.weight"])


class Remembers(nn.Linear):
    def get_extra_state(self) -> Any:
        return {"seen": 3}

    def set_extra_state(self, state: Any) -> None:
        assert state == {"seen": 3}


def test_extra_state_is_the_modules_own(tmp_path: Path) -> None:
    torch.save(Remembers(4, 2).state_dict(), tmp_path / "w.pt")
    assert not given_weights.load(Remembers(4, 2), Weights(file=tmp_path / "w.pt"))


@pytest.mark.filterwarnings("ignore")
def test_weights_of_an_older_form_are_converted_by_the_module(tmp_path: Path) -> None:
    old = nn.utils.weight_norm(nn.Linear(4, 2))
    torch.save(old.state_dict(), tmp_path / "w.pt")
    module = nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))
    given_weights.load(module, Weights(file=tmp_path / "w.pt"))
    x = torch.randn(3, 4)
    assert torch.allclose(module(x), old(x), atol=1e-6)


def test_complex_weights_are_no_real_ones(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2, 4) * 1j, "bias": torch.ones(2)}, tmp_path / "w.pt")
    with pytest.raises(BadUsage, match="complex weight"):
        given_weights.load(nn.Linear(4, 2), Weights(file=tmp_path / "w.pt"))


def test_the_others_that_fit_are_named(tmp_path: Path) -> None:
    torch.save({"model": WEIGHTS, "ema": WEIGHTS}, tmp_path / "w.pt")
    (note,) = given_weights.load(net(), Weights(file=tmp_path / "w.pt"))
    assert "under ema: --key says which" in note


@pytest.mark.parametrize("order", [("teacher", "student"), ("student", "teacher")])
def test_of_two_sets_that_nearly_fit_the_one_with_the_right_shapes_is_taken(
    order: tuple[str, str], tmp_path: Path
) -> None:
    wide, own = nn.Linear(6, 9).state_dict(), nn.Linear(4, 3).state_dict()
    sets = {"teacher": wide, "student": {**own, "extra": torch.ones(1)}}
    torch.save({name: sets[name] for name in order}, tmp_path / "w.pt")
    module = nn.Linear(4, 3)
    given_weights.load(module, Weights(file=tmp_path / "w.pt", strict=False))
    assert torch.equal(module.weight, own["weight"])

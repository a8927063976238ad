"""A module's attributes as Python, run again in an empty namespace."""

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from toolchain.bisection import repro_text
from toolchain.bisection.construction import Names, of_module, of_value
from toolchain.bisection.sources import NotDescribable


class Holder:
    pass


def written(value: Any) -> str:
    return of_value(value, Names(), "Net.it")


@pytest.mark.parametrize(
    "value",
    [
        torch.device("cpu"),
        torch.device("cuda", 1),
        torch.float32,
        torch.Size([2, 3]),
        np.sqrt(64),
        np.float32(0.5),
        np.int64(3),
        np.bool_(True),
        slice(np.int64(1), None, 2),
        [np.float64(-2.0), {"device": torch.device("cpu")}],
        float("-inf"),
        np.float64("inf"),
    ],
)
def test_a_value_is_the_same_when_it_is_read(value: Any) -> None:
    assert eval(written(value), {"torch": torch}) == value


def test_what_leads_back_to_itself() -> None:
    alone, one, other = Holder(), Holder(), Holder()
    vars(alone)["me"] = alone
    vars(one)["other"], vars(other)["one"] = [other], {"one": one}
    endless: list[Any] = []
    endless.append(endless)
    for value in (alone, one, endless):
        with pytest.raises(NotDescribable, match="leads back to itself"):
            written(value)


def test_the_same_thing_twice_is_no_circle() -> None:
    shared = [1]
    assert written([shared, (shared, shared)]) == "[[1], ([1], [1])]"


@pytest.fixture
def namesakes(tmp_path: Path) -> Iterator[list[type]]:
    """A class Inner of each of two files."""
    found = []
    for name in ("namesake_a", "namesake_b"):
        module = sys.modules[name] = types.ModuleType(name)
        module.__file__ = str(tmp_path / f"{name}.py")
        exec("class Inner:\n    class Deep: pass\n    class Other: pass\n", vars(module))
        found.append(module.Inner)
    yield found
    for name in ("namesake_a", "namesake_b"):
        del sys.modules[name]


def test_two_classes_of_one_name(namesakes: list[Any]) -> None:
    first, second = namesakes
    names = Names()
    assert [names.of(each) for each in (first, first.Deep, first.Other)] == ["Inner", "Inner.Deep", "Inner.Other"]
    for each in (second, second.Deep):
        with pytest.raises(NotDescribable, match="two files have a 'Inner'"):
            names.of(each)


def test_a_layer_is_written_as_it_shows_itself() -> None:
    assert of_module(nn.BatchNorm1d(3), Names()).startswith("torch.nn.BatchNorm1d(3, eps=1e-05")
    assert of_module(nn.GELU(), Names()) == "torch.nn.GELU(approximate='none')"


def test_a_layer_of_torchs_has_the_ranges_of_the_models_own() -> None:
    layer = nn.Conv1d(2, 3, 3)
    with torch.no_grad():
        layer.weight.uniform_(-70, 900)
        layer.weight[0, 0, :2] = torch.tensor([-70.0, 900.0])
        layer.bias.fill_(4)  # type: ignore[union-attr]
    text = of_module(layer, Names())
    assert "torch.nn.Conv1d(2, 3, kernel_size=(3,), stride=(1,))" in text
    found: dict[str, Any] = {"torch": torch}
    exec(repro_text.TENSOR + repro_text.FILLED + f"made = {text}", found)
    made = found["made"]
    assert -70 <= made.weight.min() < 100 < made.weight.max() <= 900
    assert made.bias.tolist() == [4, 4, 4]


@pytest.mark.parametrize("said", ["open('RAN', 'w')", "0, **{'a': open('RAN', 'w')}"])
def test_what_a_layer_says_of_itself_is_not_run(said: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert of_module(nn.Softmax(dim=said), Names()).startswith("build(")
    assert not (tmp_path / "RAN").exists()

"""Several processes, or one that does a step in parts, come to the weights of one that does it at once."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.contract.training.processes import together
from tests.contract.training.tiny_recipes import DATA, linear, options, recipe
from toolchain.errors import BadUsage
from toolchain.progress import SILENT
from toolchain.recipe import Recipe
from toolchain.training import checkpoint, loop, shared_norm
from toolchain.training.objective import Objective
from toolchain.training.options import Parallel, Switches
from toolchain.training.world import ALONE, World

PROCESSES = 2
_LABELS = np.asarray(DATA.train.targets)
PART_IGNORED = replace(
    DATA, train=replace(DATA.train, targets=np.where(np.arange(len(_LABELS)) % 5 == 0, -100, _LABELS))
)


class Normed(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


class Unreached(nn.Linear):
    def __init__(self) -> None:
        super().__init__(6, 2)
        self.spare = nn.Linear(3, 3)


class ReachedByOne(Unreached):
    """Of which the process that leads reaches all."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(6, 2)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        scores = super().forward(input)
        return scores + 0 * self.spare(input) if os.environ.get("RANK", "0") == "0" else scores


class Frozen(Normed):
    def __init__(self) -> None:
        super().__init__()
        self[1].requires_grad_(False)


class Attending(nn.Module):
    """Of two layers with the same weights, and of attention, each large enough to be in parts by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 256), nn.Linear(256, 2)
        self.middle = nn.TransformerEncoderLayer(256, 2, 256, dropout=0.0, batch_first=True)
        self.middle.linear2.weight = self.middle.linear1.weight

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.last(self.middle(self.first(input)[:, None])[:, 0])
        return scores


def shaken(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draws in the ways that are one row a sample, and in one that is not."""
    count = len(batch)
    batch = batch * torch.rand(count, 1, generator=generator) + torch.randn((count, 6), generator=generator) * 0.1
    sign = 2 * torch.randint(0, 2, (count, 1), generator=generator) - 1
    return batch * sign + torch.empty(count, 6).uniform_(-0.1, 0.1, generator=generator)


def mean_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs.softmax(1)[:, 1] - targets).square().mean()


def all_of(split: Any, generator: torch.Generator) -> torch.Tensor:
    return torch.randperm(30, generator=generator)


Case = tuple[Callable[[], Recipe], dict[str, Any]]
CASES: dict[str, Case] = {
    "plain": (recipe, {}),
    "class weights": (lambda: recipe(class_weights=[0.2, 1.8], label_smoothing=0.1), {}),
    "targets left out": (recipe, {"data": PART_IGNORED}),
    "a loss of its own": (lambda: recipe(loss=mean_loss, metric="top1"), {}),
    "augmented": (lambda: recipe(augment=shaken), {}),
    "sampled": (lambda: recipe(sampler=all_of), {}),
    "uneven": (recipe, {"batch_size": 13}),
    "fewer than a batch": (recipe, {"batch_size": 500}),
    "a weight that nothing reaches": (lambda: recipe(Unreached), {}),
    "a weight that one process reaches": (lambda: recipe(ReachedByOne), {}),
    "a class without weight": (lambda: recipe(class_weights=[0.0, 1.0]), {"parallel": Parallel(accumulate=6)}),
    "frozen batch normalization": (lambda: recipe(Frozen), {"parallel": Parallel(shared_norm=True)}),
    "sharded attention": (
        lambda: recipe(Attending),
        {"epochs": 1, "lr": 1e-3, "parallel": Parallel(fsdp=True), "switches": Switches(whole_batches=True)},
    ),
    "batch normalization": (lambda: recipe(Normed), {"parallel": Parallel(shared_norm=True)}),
    "in parts": (lambda: recipe(augment=shaken, class_weights="balanced"), {"parallel": Parallel(accumulate=3)}),
    "sharded": (
        lambda: recipe(Normed),
        {"parallel": Parallel(shared_norm=True, fsdp=True), "switches": Switches(whole_batches=True)},
    ),
    "momentum of two groups": (
        lambda: recipe(parameter_groups=lambda model, lr: [{"params": [each]} for each in model.parameters()]), {},
    ),
}  # fmt: skip


def trained(name: str, world: World, folder: Path) -> tuple[dict[str, np.ndarray[Any, Any]], list[Any]]:
    """The weights, and (loss, train score, validation score) of each epoch."""
    make, more = CASES[name]
    given = dict(more)
    data = given.pop("data", DATA)
    result = loop.train(make(), data, options(**given), folder, progress=SILENT, world=world)
    state = world.told(checkpoint.load(folder / checkpoint.RESUME) if world.leads else None)
    weights = {key: value.numpy() for key, value in state["trainer"]["model"].items()}
    return weights, [(each.loss, each.train_score, each.validation_score) for each in result.epochs]


def all_cases(world: World) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return {name: trained(name, world, Path(folder) / str(number)) for number, name in enumerate(CASES)}


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return together(PROCESSES, all_cases, tmp_path_factory.mktemp("processes"))


@pytest.mark.parametrize("name", CASES)
def test_two_processes_come_to_the_weights_of_one(name: str, by_two: list[dict[str, Any]], tmp_path: Path) -> None:
    weights, epochs = trained(name, ALONE, tmp_path)
    for found, said in (each[name] for each in by_two):
        assert found.keys() == weights.keys()
        for key, value in weights.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-5, err_msg=key)
        np.testing.assert_allclose(said, epochs, rtol=1e-5)
    assert by_two[0][name][1] == by_two[1][name][1]


@pytest.mark.parametrize("name", ["plain", "class weights", "targets left out", "a loss of its own", "augmented"])
def test_a_step_in_parts_is_the_step(name: str, tmp_path: Path) -> None:
    make, more = CASES[name]
    data = more.get("data", DATA)
    found = []
    for parts in (1, 5):
        folder = tmp_path / str(parts)
        loop.train(make(), data, options(parallel=Parallel(accumulate=parts)), folder, progress=SILENT)
        found.append(checkpoint.load(folder / checkpoint.RESUME)["trainer"]["model"])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("loss", "named"),
    [
        (lambda outputs, targets: outputs.square().sum(), "is no mean over samples: each given twice"),
        (lambda outputs, targets: (outputs @ outputs.T).square().sum().sqrt(), "is no mean over samples"),
        (nn.CrossEntropyLoss(weight=torch.tensor([0.2, 1.8])), r"samples: \d of 6 given apart, it is"),
        (nn.CrossEntropyLoss(ignore_index=1), r"samples: \d of 6 given apart, it is"),
    ],
)
def test_a_loss_that_is_no_mean_cannot_be_done_in_parts(loss: Any, named: str, tmp_path: Path) -> None:
    given = recipe(loss=loss)
    loop.train(given, DATA, options(), tmp_path / "whole", progress=SILENT)
    with pytest.raises(BadUsage, match=named):
        loop.train(given, DATA, options(parallel=Parallel(accumulate=2)), tmp_path / "parts", progress=SILENT)


def test_a_loss_that_becomes_nan_in_parts_is_told(tmp_path: Path) -> None:
    given = options(lr=1e38, parallel=Parallel(accumulate=2))
    with pytest.raises(BadUsage, match="The loss became NaN in epoch 1"):
        loop.train(recipe(class_weights=[0.2, 1.8]), DATA, given, tmp_path, progress=SILENT)


class Rectified(nn.BatchNorm1d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).relu()


def test_a_batch_normalization_that_does_more_is_not_replaced() -> None:
    with pytest.raises(BadUsage, match="The model's Rectified is a BatchNorm and more"):
        shared_norm.shared(nn.Sequential(nn.Linear(6, 8), Rectified(8)), "cpu")


def test_targets_that_are_read_on_demand_are_not_read_to_see_whether_some_count_less() -> None:
    class Unread:
        def __len__(self) -> int:
            return len(DATA.train)

        def __getitem__(self, row: int) -> Any:
            pytest.fail("it is read")

    data = replace(DATA, train=replace(DATA.train, targets=Unread()))
    assert Objective(recipe(), data, "cpu").weighs


def test_a_batch_smaller_than_its_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadUsage, match="A step has 2 samples, and 1 processes do it in 3 parts each"):
        given = options(batch_size=2, parallel=Parallel(accumulate=3))
        loop.train(recipe(linear), DATA, given, tmp_path, progress=SILENT)


def disagreeing(world: World) -> str:
    try:
        world.require_agreement({"data": 7, "recipe_code": world.rank})
    except BadUsage as error:
        return error.what
    return ""


def test_processes_that_disagree_are_named(tmp_path: Path) -> None:
    assert (
        together(2, disagreeing, tmp_path) == ["Process 1 of the training has another recipe code than process 0."] * 2
    )

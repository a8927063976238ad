"""What a recipe brings for its training: groups, schedule, sampler, weights, mixup, patience, inputs and outputs."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.contract.training.tiny_recipes import DATA, INPUTS, LABELS, Notes, linear, options, recipe, trained
from toolchain.datasets.dataset import Dataset, Split
from toolchain.errors import BadUsage
from toolchain.recipe import balanced
from toolchain.recipes.calling import Call
from toolchain.training import checkpoint, parameters
from toolchain.training.batches import Batch
from toolchain.training.mixup import drawn_mix
from toolchain.training.objective import Objective
from toolchain.training.order import Order, Piece
from toolchain.training.trainer import Trainer


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = checkpoint.load(folder / checkpoint.RESUME)["trainer"]["model"]
    return found


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("groups", "named"),
    [
        (lambda model, lr: [{"params": [model.weight]}], "leave out bias"),
        (lambda model, lr: [{"params": model.parameters()}, {"params": model.bias}], "repeat bias"),
        (lambda model, lr: [{"params": nn.Linear(2, 2).parameters()}], "2 of no parameter of the model"),
        (lambda model, lr: [{"weights": model.parameters()}], "parameter_groups failed: KeyError"),
    ],
)
def test_groups_name_every_parameter_once(groups: Any, named: str, tmp_path: Path) -> None:
    with pytest.raises(BadUsage, match=named):
        trained(recipe(parameter_groups=groups), tmp_path)


def test_groups_may_leave_out_what_is_frozen_and_have_rates_of_their_own() -> None:
    def frozen() -> nn.Module:
        net = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
        net[0].requires_grad_(False)
        return net

    given = recipe(frozen, parameter_groups=lambda model, lr: [{"params": model[1].parameters(), "lr": lr / 10}])
    trainer = Trainer(given, DATA, options(), total_steps=8, progress=Notes())
    assert [group["lr"] for group in trainer.optimizer.param_groups] == [pytest.approx(0.005)]
    with pytest.raises(BadUsage, match="no parameter to train"):
        parameters.of(given, nn.Flatten(), 0.1)


@pytest.mark.parametrize(
    ("schedule", "named"),
    [
        (lambda optimizer, steps: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer), "ReduceLROnPlateau"),
        (lambda optimizer, steps: 0.1, "makes a float"),
        (lambda optimizer, steps: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=8), "cannot go on"),
    ],
)
def test_a_schedule_that_cannot_be_stepped_after_every_step_is_refused(
    schedule: Any, named: str, tmp_path: Path
) -> None:
    with pytest.raises(BadUsage, match=named):
        trained(recipe(schedule=schedule), tmp_path)


def test_a_schedule_written_over_epochs_is_told(tmp_path: Path) -> None:
    def by_epoch(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.1)

    said = Notes()
    trained(recipe(schedule=by_epoch), tmp_path, said=said)
    assert len([text for text in said.said if "stepped after every step, 6 times an epoch" in text]) == 1
    said = Notes()
    trained(recipe(one_cycle=True), tmp_path, said=said, resume=False)
    assert not [text for text in said.said if "stepped" in text]


def test_training_ends_when_nothing_gets_better(tmp_path: Path) -> None:
    said = Notes()
    given = recipe(optimizer=lambda found, lr: torch.optim.SGD(found, lr=1e-12), patience=2)
    result = trained(given, tmp_path, epochs=9, said=said)
    assert (len(result.epochs), result.best.number) == (3, 1)
    assert "Ended after epoch 3: no better accuracy since epoch 1." in said.said
    assert len(trained(given, tmp_path, epochs=9, resume=True).epochs) == 3


def test_a_sampler_draws_each_class_equally_often() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    rows = balanced(Split(INPUTS[:100], labels), torch.Generator().manual_seed(0))
    assert len(rows) == 100
    assert 35 < int((labels[rows.numpy()] == 1).sum()) < 65
    with pytest.raises(BadUsage, match="no class numbers"):
        balanced(Split(INPUTS[:100], labels.astype(np.float32)), torch.Generator())


def test_a_sampler_says_how_long_an_epoch_is(tmp_path: Path) -> None:
    given = recipe(sampler=lambda split, generator: torch.randperm(30, generator=generator))
    assert Order(given, DATA, options()).steps_per_epoch() == 2
    trained(given, tmp_path)
    lengths = iter((30, 30, 30, 29))
    given = recipe(sampler=lambda split, generator: torch.arange(next(lengths)))
    with pytest.raises(BadUsage, match="gives 29 rows, and 30 in the first epoch"):
        trained(given, tmp_path, resume=False)


def test_balanced_class_weights_are_those_of_rarity() -> None:
    labels = np.array([0, 0, 0, 1])
    split = Split(INPUTS[:4], labels)
    data = Dataset(train=split, validation=split, test=split)
    scores = torch.randn(4, 2, requires_grad=True)
    found = Objective(recipe(class_weights="balanced"), data, "cpu")(
        scores, Batch({}, torch.from_numpy(labels), Piece(0, 4, 4))
    )
    wanted = F.cross_entropy(scores, torch.from_numpy(labels), weight=torch.tensor([4 / 6, 2.0]))
    torch.testing.assert_close(found, wanted)


def test_a_mixed_loss_is_that_of_mixed_targets() -> None:
    mix = drawn_mix(0.4, 12, torch.Generator().manual_seed(1))
    assert 0.5 <= mix.share <= 1
    labels, scores = torch.from_numpy(LABELS[:12]), torch.randn(12, 2)
    soft = F.one_hot(labels, 2).float()
    blended = mix.share * soft + (1 - mix.share) * soft[mix.order]
    torch.testing.assert_close(mix.of_loss(F.cross_entropy, scores, labels), F.cross_entropy(scores, blended))
    values = torch.from_numpy(INPUTS[:12])
    wanted = mix.share * values + (1 - mix.share) * values[mix.order]
    torch.testing.assert_close(mix.of_inputs(values, "x"), wanted)


@pytest.mark.parametrize(
    "parts",
    [
        {"mixup": 0.3},
        {"sampler": balanced, "one_cycle": True},
        {"augment": lambda batch, generator: batch + torch.randn(batch.shape, generator=generator) / 10},
        {"schedule": lambda optimizer, steps: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)},
    ],
)
def test_an_interrupted_training_ends_in_the_same_weights(parts: dict[str, Any], tmp_path: Path) -> None:
    given = recipe(**parts)
    unbroken = trained(given, tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        trained(given, tmp_path / "b", said=Notes(stop=3))
    resumed = trained(given, tmp_path / "b", resume=True)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert [epoch.loss for epoch in unbroken.epochs] == [epoch.loss for epoch in resumed.epochs]


def test_more_epochs_continue_a_constant_rate_as_if_they_had_been_asked_for(tmp_path: Path) -> None:
    trained(recipe(), tmp_path / "a", epochs=5)
    trained(recipe(), tmp_path / "b", epochs=3)
    longer = trained(recipe(), tmp_path / "b", epochs=5, resume=True)
    assert len(longer.epochs) == 5
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    with pytest.raises(BadUsage, match=r"another epochs: 5 are asked for, or done"):
        trained(recipe(), tmp_path / "b", epochs=4, resume=True)


@pytest.mark.parametrize("group_rates", [False, True])
def test_more_epochs_of_an_annealed_rate_have_a_cycle_of_their_own(group_rates: bool, tmp_path: Path) -> None:
    groups = lambda model, lr: [{"params": [model.weight], "lr": lr / 2}, {"params": [model.bias]}]  # noqa: E731
    given = recipe(one_cycle=True, parameter_groups=groups if group_rates else None)
    said = Notes()
    trained(given, tmp_path, epochs=3)
    trained(given, tmp_path, epochs=6, resume=True, said=said)
    assert "The learning rate's schedule was over 3 epochs: a new one began after them." in said.said
    state = checkpoint.load(tmp_path / checkpoint.RESUME)
    assert state["restarted_after"] == 3
    peaks = [group["max_lr"] for group in state["trainer"]["optimizer"]["param_groups"]]
    assert peaks == ([0.025, 0.05] if group_rates else [0.05])
    assert state["trainer"]["schedule"]["total_steps"] == 3 * 6 + 1
    whole = weights(tmp_path)

    trained(given, tmp_path / "again", epochs=3)
    with pytest.raises(KeyboardInterrupt):
        trained(given, tmp_path / "again", epochs=6, resume=True, said=Notes(stop=5))
    trained(given, tmp_path / "again", epochs=6, resume=True)
    assert same(whole, weights(tmp_path / "again"))
    # what an unbroken run of 6 epochs would not come to is not taken for one
    with pytest.raises(KeyboardInterrupt):
        trained(given, tmp_path / "again", epochs=6, said=Notes(stop=1))


class Towers(nn.Module):
    """Two inputs, one of ids, keyword-only the other; two named outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.ids, self.score = nn.Embedding(50, 4), nn.Linear(10, 2)

    def forward(self, ids: torch.Tensor, *, values: torch.Tensor) -> dict[str, torch.Tensor]:
        features = torch.cat([self.ids(ids), values], 1)
        return {"scores": self.score(features), "features": features}


@pytest.mark.parametrize("whole_batches", [True, False])
def test_several_inputs_reach_forward_by_name_and_named_outputs_the_loss(whole_batches: bool, tmp_path: Path) -> None:
    ids = np.arange(120) % 50
    data = Dataset.shuffled({"values": INPUTS, "ids": ids}, LABELS)
    given = recipe(Towers, loss=lambda out, labels: F.cross_entropy(out["scores"], labels))
    switches = options().switches.__class__(whole_batches=whole_batches)
    result = trained(given, tmp_path, data, switches=switches)
    assert result.best.validation_score is not None
    assert result.epochs[-1].loss < result.epochs[0].loss
    assert result.epochs[0].train_score is None


def test_a_call_gives_by_place_what_it_can() -> None:
    class Net(nn.Module):
        def forward(self, left: torch.Tensor, right: torch.Tensor, *, third: torch.Tensor) -> torch.Tensor:
            return left - right * third

    one, two, three = (torch.tensor(float(value)) for value in (1, 2, 3))
    call = Call(Net(), ["third", "right", "left"])
    assert call(Net(), {"left": one, "right": two, "third": three}) == -5
    assert call.order is None
    assert Call(linear(), ["anything"]).order == ["anything"]
    assert Call(nn.Bilinear(2, 2, 2), ["input2", "input1"]).order == ["input1", "input2"]


def test_an_undefined_score_ends_no_training(tmp_path: Path) -> None:
    constant = Dataset.shuffled(INPUTS, np.ones(120, np.float32))
    given = recipe(lambda: nn.Linear(6, 1), loss=lambda out, wanted: F.mse_loss(out[:, 0], wanted), metric="r2")
    result = trained(given, tmp_path, constant)
    assert [epoch.validation_score for epoch in result.epochs] == [None] * 4


def test_a_lower_error_is_a_better_epoch(tmp_path: Path) -> None:
    data = Dataset.shuffled(INPUTS, INPUTS[:, :1])
    given = recipe(lambda: nn.Linear(6, 1), loss=F.l1_loss, metric="mae", lr=0.02)
    result = trained(given, tmp_path, data, epochs=6)
    scores = [epoch.validation_score or math.inf for epoch in result.epochs]
    assert result.best.validation_score == min(scores) < scores[0]

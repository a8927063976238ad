"""What cannot be trained is refused before the first step, in one sentence that names the part that does not fit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from toolchain.datasets.dataset import Dataset, Scale, Split
from toolchain.errors import BadUsage
from toolchain.recipe import Recipe, adam
from toolchain.training.batches import BatchPath
from toolchain.training.fitness import require_fit
from toolchain.training.objective import Objective
from toolchain.training.options import Switches, TrainingOptions

INPUTS = np.random.default_rng(0).standard_normal((6, 1, 4, 4)).astype(np.float32)
LABELS = np.array([0, 1, 0, 1, 0, 1])
FLOATS = np.linspace(-1, 1, 6, dtype=np.float32)


def data(inputs: Any, targets: Any) -> Dataset:
    split = Split(inputs, targets)
    return Dataset(train=split, validation=split, test=split)


def flat(outputs: int) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, outputs))


TWO = flat(2)


def recipe(model: Callable[[], nn.Module] = TWO, **more: Any) -> Recipe:
    given: dict[str, Any] = {"epochs": 1, "batch_size": 6, "lr": 0.1, "optimizer": adam, **more}
    return Recipe(name="tiny", model=model, data=lambda folder: pytest.fail("it is given"), **given)


def options(switches: Switches | None = None, *, batch_size: int = 6) -> TrainingOptions:
    switches = switches or Switches(whole_batches=True)
    return TrainingOptions(epochs=1, batch_size=batch_size, lr=1, seed=0, device="cpu", switches=switches)


def fit(given: Recipe, made: Dataset, *, batch_size: int = 6) -> None:
    path = BatchPath(given, made, options(batch_size=batch_size))
    require_fit(given.model(), path, Objective(given, made, "cpu"), given.judged_by())


def regression(**more: Any) -> Recipe:
    return recipe(flat(1), **{"loss": lambda out, wanted: F.mse_loss(out[:, 0], wanted), "metric": "mae", **more})


@pytest.mark.parametrize("kind", [np.int32, np.uint8, np.bool_, np.int64])
def test_whole_labels_of_any_type_are_taken(kind: type[np.generic]) -> None:
    made = data(INPUTS, LABELS.astype(kind))
    assert made.train.targets.dtype == np.int64
    fit(recipe(), made)


@pytest.mark.parametrize(
    ("model", "targets", "named"),
    [
        (flat(3), np.array([1, 2, 3, 1, 2, 3]), "label 3, and the model scores 3"),
        (flat(3), np.array([1, 2, -1, 1, 2, 0]), "label -1"),
        (flat(1), LABELS, r"returns \[2, 1\]"),
        (lambda: nn.Conv2d(1, 2, 3, padding=1), LABELS, r"returns \[2, 2, 4, 4\]"),
        (lambda: nn.Linear(7, 2), LABELS, "does not run on its data"),
        (flat(2), FLOATS, "float32, not class numbers"),
        (flat(2), np.zeros((6, 3), np.int64), r"targets \[2, 3\]"),
        (flat(2), np.array(list("abcabc")), "no tensor holds"),
        (lambda: Pair(), LABELS, "returns a tuple"),
    ],
)
def test_a_model_that_does_not_score_its_labels_is_refused(
    model: Callable[[], nn.Module], targets: npt.NDArray[np.generic], named: str
) -> None:
    with pytest.raises(BadUsage, match=named):
        fit(recipe(model), data(INPUTS, targets))


class Pair(nn.Module):
    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return image.flatten(1), image.flatten(1)


def test_cross_entropy_takes_a_class_for_each_pixel_and_leaves_100_below_zero_out() -> None:
    masks = np.tile(np.array([0, 1, -100, 1]), (6, 4, 1))
    fit(recipe(lambda: nn.Conv2d(1, 2, 3, padding=1)), data(INPUTS, masks))


class Silent(nn.Module):
    """A loss with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs[:, 0] - targets).square().mean() * self.scale


@pytest.mark.parametrize(
    ("loss", "named"),
    [
        (lambda out, wanted: (out[:, 0] - wanted) ** 2, r"returns \[6\], not one number"),
        (lambda out, wanted: 3.0, "returns float"),
        (lambda out, wanted: (out[:, 0] - wanted).detach().mean(), "has no gradient"),
        (lambda out, wanted: (out[:, 0] - wanted).mean() / 0, "is (nan|-?inf) on the first batch"),
        (lambda out, wanted: F.mse_loss(out["price"], wanted), "The recipe's loss failed"),
    ],
)
def test_a_loss_that_is_no_finite_number_with_a_gradient_is_refused(loss: Any, named: str) -> None:
    with pytest.raises(BadUsage, match=named):
        fit(regression(loss=loss), data(INPUTS, FLOATS))


def test_a_loss_may_be_a_module_without_parameters() -> None:
    weighted = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0]))
    fit(recipe(flat(1), loss=weighted, metric="f1"), data(INPUTS, LABELS.astype(np.float32)[:, None]))
    with pytest.raises(BadUsage, match="parameters of its own"):
        fit(regression(loss=Silent()), data(INPUTS, FLOATS))


def test_a_metric_that_does_not_fit_is_refused() -> None:
    with pytest.raises(BadUsage, match="top1 wants"):
        fit(regression(metric="top1"), data(INPUTS, FLOATS))
    with pytest.raises(BadUsage, match="names the metric 'accurracy'"):
        recipe(metric="accurracy")


@pytest.mark.parametrize(("value", "named"), [(np.nan, "NaN"), (np.inf, "infinity")])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("where", ["inputs", "targets"])
def test_what_is_not_finite_is_called_that(value: float, named: str, split: str, where: str) -> None:
    sound = Split(INPUTS, FLOATS)
    broken = {"inputs": INPUTS.copy(), "targets": FLOATS.copy()}
    broken[where][2] = value
    broken[where][4] = value
    splits: dict[str, Any] = {**dict.fromkeys(("train", "validation", "test"), sound), split: Split(**broken)}
    what = "input 'image'" if where == "inputs" else "target"
    with pytest.raises(BadUsage) as refused:
        fit(regression(input_name="image"), Dataset(**splits))
    assert refused.value.what == (
        f"The {what} of the {split} split holds {named} in row 2, counting from 0; 2 of 6 rows are not finite."
    )


def test_what_is_not_finite_is_found_in_lists_and_in_one_of_several_inputs() -> None:
    parts: dict[str, Any] = {"left": INPUTS, "right": [np.zeros(3), np.array([0.0, np.nan])] * 3}
    with pytest.raises(BadUsage, match=r"input 'right' of the train split holds NaN in row 1, .* 3 of 6 rows are"):
        fit(recipe(), data(parts, LABELS))


def test_a_scale_by_zero_is_refused_when_it_is_made() -> None:
    with pytest.raises(BadUsage, match=r"std of a Scale of channel 1 is 0\.0"):
        Scale(std=(1.0, 0.0))
    with pytest.raises(BadUsage, match="divisor of a Scale is 0"):
        Scale(divisor=0)


def test_a_batch_of_one_sample_for_a_batch_norm_is_refused() -> None:
    def normed() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 2))

    fit(recipe(normed), data(INPUTS, LABELS))
    with pytest.raises(BadUsage, match="first batch, or a part of it, has 1 sample, and a BatchNorm"):
        fit(recipe(normed), data(INPUTS, LABELS), batch_size=1)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"class_weights": (1.0, 2.0, 3.0)}, "3 class weights, and the model scores 2"),
        ({"sampler": lambda split, generator: np.array([0, 6])}, "gives row 6, and the training split has 6"),
        ({"sampler": lambda split, generator: np.array([0.5])}, r"sampler gives float64\[1\]"),
        ({"sampler": lambda split, generator: split.nothing}, "The recipe's sampler failed: AttributeError"),
        ({"augment": lambda batch, generator: batch.nothing}, "The recipe's augment failed"),
        ({"mixup": 0.2}, None),
    ],
)
def test_parts_that_fail_are_named(changes: dict[str, Any], named: str | None) -> None:
    if named is None:
        fit(recipe(**changes), data(INPUTS, LABELS))
        return
    with pytest.raises(BadUsage, match=named):
        fit(recipe(**changes), data(INPUTS, LABELS))


def test_ids_are_not_mixed() -> None:
    net = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(8, 2))
    ids = np.arange(12).reshape(6, 2) % 9
    fit(recipe(lambda: net), data(ids, LABELS))
    with pytest.raises(BadUsage, match="no mixup of ids"):
        fit(recipe(lambda: net, mixup=0.2), data(ids, LABELS))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"loss": F.mse_loss, "label_smoothing": 0.1}, "loss of its own beside"),
        ({"patience": 0}, "patience .* is 0"),
        ({"mixup": -1.0}, "mixup .* is -1"),
        ({"class_weights": (1.0, float("nan"))}, "not a number from 0 on"),
        ({"class_weights": "even"}, "'even'"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(BadUsage, match=named):
        recipe(**changes)


@pytest.mark.parametrize(
    ("inputs", "targets", "named"),
    [
        (INPUTS, LABELS[:5], "6 inputs and 5 targets"),
        (INPUTS[:0], LABELS[:0], "0 inputs and 0 targets"),
        ({"a": INPUTS, "b": INPUTS[:2]}, LABELS, "6 a and 2 b and 6 targets"),
        ({}, LABELS, "6 targets"),
        (np.float32(3), LABELS, "float32"),
        (INPUTS, "text", "holds a str"),
    ],
)
def test_a_split_whose_parts_do_not_fit_is_refused(inputs: Any, targets: Any, named: str) -> None:
    with pytest.raises(BadUsage, match=named):
        Split(inputs, targets)


def ragged(samples: Any) -> tuple[torch.Tensor, torch.Tensor]:
    rows = [torch.from_numpy(values) for values, _ in samples]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([target for _, target in samples])


class Mean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(1, 2)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.score(wave.mean(1, keepdim=True))
        return scores


LISTS = [np.ones(length, np.float32) for length in (3, 5, 4, 3, 2, 6)]


@pytest.mark.parametrize(
    ("collate", "named"),
    [
        (None, "unequal shapes"),
        (lambda samples: samples[0].nothing, "The recipe's collate of rows 0, 1 failed: AttributeError"),
        (lambda samples: torch.zeros(2, 3), r"returns a Tensor"),
        (lambda samples: (torch.zeros(3, 3), torch.zeros(3)), r"makes 'input' \[3, 3\] of 2 samples"),
        (lambda samples: (torch.zeros(2, 0), torch.zeros(2)), r"makes 'input' \[2, 0\] of 2 samples"),
        (lambda samples: (["a", "b"], torch.zeros(2)), "makes a list of the input"),
        (ragged, None),
    ],
)
def test_a_collate_makes_batches_of_what_are_no_arrays(collate: Any, named: str | None) -> None:
    given, made = recipe(Mean, collate=collate), data(LISTS, LABELS)
    if named is None:
        fit(given, made)
        return
    with pytest.raises(BadUsage, match=named):
        fit(given, made)


IDS = np.array([[1001, 257], [3, 40_001]] * 3)


@pytest.mark.parametrize("cast_before_copy", [False, True])
@pytest.mark.parametrize("cast_inputs", [False, True])
@pytest.mark.parametrize("amp", ["bf16", "fp16", "off"])
def test_ids_reach_the_model_whole_and_floats_in_half_only_where_the_recipe_says_so(
    amp: str, cast_inputs: bool, cast_before_copy: bool
) -> None:
    switches = Switches(amp=amp, whole_batches=True, cast_before_copy=cast_before_copy)
    masks = np.array([[True, False]] * 6)
    given = recipe(cast_inputs=cast_inputs)
    several = {"ids": IDS, "values": INPUTS, "mask": masks}
    batch = next(BatchPath(given, data(several, LABELS), options(switches)).batches(1))
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(amp, torch.float32)
    kinds = {name: tensor.dtype for name, tensor in batch.inputs.items()}
    assert kinds == {"ids": torch.int64, "values": half if cast_inputs else torch.float32, "mask": torch.bool}
    assert sorted(batch.inputs["ids"].flatten().tolist()) == sorted(IDS.flatten().tolist())


def test_whole_numbers_that_are_scaled_become_floats() -> None:
    assert Scale(divisor=2)(torch.tensor([[4]])).dtype == torch.float32
    assert Scale()(torch.tensor([[4]], dtype=torch.uint8)).dtype == torch.float32
    assert Scale()(torch.tensor([[4]])).dtype == torch.int64


def test_a_recipe_leaves_its_inputs_alone_unless_it_says_otherwise() -> None:
    assert not Recipe.__dataclass_fields__["cast_inputs"].default

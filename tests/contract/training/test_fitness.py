"""Labels are looked at when a split is made, and against the model's scores before the first step."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from toolchain.datasets.dataset import Dataset, Scale, Split
from toolchain.errors import BadUsage
from toolchain.recipe import Recipe
from toolchain.training.batches import BatchPath
from toolchain.training.fitness import require_fit
from toolchain.training.options import Switches, TrainingOptions

INPUTS = np.random.default_rng(0).standard_normal((6, 1, 4, 4)).astype(np.float32)


def data(inputs: npt.NDArray[np.generic], labels: npt.NDArray[np.generic]) -> Dataset:
    split = Split(inputs, labels)  # type: ignore[arg-type]
    return Dataset(train=split, validation=split, test=split, classes=("0", "1"))


def flat(outputs: int) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, outputs))


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((6, 4, 4), np.int64),
        np.zeros(6, np.float32),
        np.zeros((6, 3), np.float32),
        np.array([0, 1, -1, 0, 1, 0]),
        np.array(list("abcabc")),
    ],
)
def test_labels_that_are_no_class_numbers_are_refused_when_a_split_is_made(labels: npt.NDArray[np.generic]) -> None:
    with pytest.raises(BadUsage):
        Split(INPUTS, labels)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [np.int32, np.uint8, np.bool_, np.int64])
def test_whole_labels_of_any_type_are_taken(kind: type[np.generic]) -> None:
    made = data(INPUTS, np.array([0, 1, 0, 1, 0, 1]).astype(kind))
    assert made.train.labels.dtype == np.int64
    require_fit(flat(2)(), made, "cpu")


@pytest.mark.parametrize(
    ("model", "labels", "named"),
    [
        (flat(3), [1, 2, 3, 1, 2, 3], "label 3, and the model scores 3"),
        (flat(1), [0, 1, 0, 1, 0, 1], r"returns \[2, 1\]"),
        (lambda: nn.Conv2d(1, 2, 3, padding=1), [0, 1, 0, 1, 0, 1], r"returns \[2, 2, 4, 4\]"),
        (lambda: nn.Linear(7, 2), [0, 1, 0, 1, 0, 1], "does not run on its data"),
    ],
)
def test_a_model_that_does_not_score_its_labels_is_refused(
    model: Callable[[], nn.Module], labels: list[int], named: str
) -> None:
    with pytest.raises(BadUsage, match=named):
        require_fit(model(), data(INPUTS, np.array(labels)), "cpu")


IDS = np.array([[1001, 257], [3, 40_001]] * 3)


@pytest.mark.parametrize("cast_before_copy", [False, True])
@pytest.mark.parametrize("cast_inputs", [False, True])
@pytest.mark.parametrize("amp", ["bf16", "fp16", "off"])
def test_ids_reach_the_model_whole_and_floats_in_half_only_where_the_recipe_says_so(
    amp: str, cast_inputs: bool, cast_before_copy: bool
) -> None:
    switches = Switches(amp=amp, whole_batches=True, cast_before_copy=cast_before_copy)
    options = TrainingOptions(epochs=1, batch_size=6, lr=1, seed=0, device="cpu", switches=switches)
    labels = np.array([0, 1] * 3)
    ids = next(BatchPath(data(IDS, labels), None, options, cast_inputs).batches(1))[0]
    assert ids.dtype == torch.int64
    assert sorted(ids.flatten().tolist()) == sorted(IDS.flatten().tolist())
    values = next(BatchPath(data(INPUTS, labels), None, options, cast_inputs).batches(1))[0]
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(amp, torch.float32)
    assert values.dtype == (half if cast_inputs else torch.float32)


def test_whole_numbers_that_are_scaled_become_floats() -> None:
    assert Scale(divisor=2)(torch.tensor([[4]])).dtype == torch.float32
    assert Scale()(torch.tensor([[4]], dtype=torch.uint8)).dtype == torch.float32
    assert Scale()(torch.tensor([[4]])).dtype == torch.int64


def test_a_recipe_leaves_its_inputs_alone_unless_it_says_otherwise() -> None:
    assert not Recipe.__dataclass_fields__["cast_inputs"].default

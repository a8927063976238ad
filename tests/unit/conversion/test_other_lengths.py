"""What a file's open axes are called, and which follow from others."""

import numpy as np

from exporters.batch_axes import BatchAxes
from toolchain.conversion import other_lengths
from toolchain.inputs import axis_lengths

STEP = BatchAxes(
    {"ids": 0, "mask": 0, "past": 1, "turn": None},
    {},
    None,
    {"ids": ("N", "now"), "mask": ("N", "past + now"), "past": (2, "N", "past", 4), "turn": ("?", "N")},
    "N",
)


def test_names_and_what_follows() -> None:
    words, follows = axis_lengths.named(STEP)
    assert words == {
        "ids": {0: "batch", 1: "now"},
        "mask": {0: "batch", 1: "past + now"},
        "past": {1: "batch", 2: "past"},
        "turn": {0: "turn 0", 1: "batch"},
    }
    assert {word: follow({"batch": 2, "past": 5, "now": 3}) for word, follow in follows.items()} == {"past + now": 8}


def test_a_sum_of_what_is_no_axis_is_an_axis_of_its_own() -> None:
    words, follows = axis_lengths.named(BatchAxes({"mask": 0}, {}, None, {"mask": ("N", "past + 1")}, "N"))
    assert (words, follows) == ({"mask": {0: "batch", 1: "past + 1"}}, {})


def test_a_call_at_other_lengths() -> None:
    call = {
        "ids": np.arange(6).reshape(2, 3), "mask": np.ones((2, 8)), "past": np.ones((2, 2, 5, 4)),
        "turn": np.ones((1, 2)),
    }  # fmt: skip
    made = list(other_lengths.calls_at_others(call, STEP))
    shapes = [{name: array.shape for name, array in each.items()} for each in made]
    assert [shape["ids"][0] for shape in shapes] == [1, 2, 7, 2, 2, 2, 2, 2]
    assert all(shape["mask"] == (shape["ids"][0], shape["ids"][1] + shape["past"][2]) for shape in shapes)
    assert {shape["ids"][1] for shape in shapes} == {3, 6, 19, 35}
    assert made[3]["ids"][0].tolist() == [0, 1, 2] * 6 + [0]


def test_nothing_is_repeated_of_what_is_empty_or_a_sequence() -> None:
    call = {"ids": np.zeros((2, 3)), "mask": np.zeros((2, 3)), "past": np.zeros((2, 2, 0, 4))}
    assert not list(other_lengths.calls_at_others(call, STEP))

"""The samples that a user names: whatever a model takes, by what it is to the model; labels are classes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exporters import feeds
from exporters.model_file import ModelFile
from toolchain.errors import BadUsage
from toolchain.inputs import samples
from toolchain.inputs.samples import Samples

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def model_of(folder: Path, **inputs: tuple[int, list[int | str]]) -> ModelFile:
    graph = helper.make_graph(
        [helper.make_node("Identity", [next(iter(inputs))], ["y"])], "g",
        [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()],
        [helper.make_tensor_value_info("y", *next(iter(inputs.values())))],
    )  # fmt: skip
    path = folder / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return ModelFile(path)


def saved(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "s.npz", **arrays)
    return str(folder / "s.npz")


def test_values_without_a_batch_axis_are_given_once_or_for_each_sample(tmp_path: Path) -> None:
    model = model_of(tmp_path, x=(FLOAT, ["N", 4]), flag=(BOOL, []), pos=(FLOAT, [6, 4]))
    file = saved(
        tmp_path, x=np.zeros((10, 4), np.float32), flag=np.arange(10) % 2 == 0, pos=np.ones((6, 4), np.float32)
    )
    given = samples.named(file, None, split="test", model=model)
    assert len(given) == 10
    some = given.rows(np.array([1, 2]))
    assert (some.inputs["flag"][0], some.inputs["flag"][1], len(some)) == (False, True, 2)
    assert given.shapes == {"x": (10, 4), "flag": (10,), "pos": (10, 6, 4)}
    assert {name: array.shape for name, array in given.call(3).items()} == {"x": (3, 4), "flag": (), "pos": (6, 4)}


def test_one_value_for_all_is_one_sample(tmp_path: Path) -> None:
    model = model_of(tmp_path, x=(FLOAT, [16]))
    given = samples.named(saved(tmp_path, x=np.zeros(16, np.float32)), None, split="test", model=model)
    assert len(given) == 1
    assert samples.named(saved(tmp_path, x=np.zeros((5, 16), np.float32)), None, split="test", model=model).call()[
        "x"
    ].shape == (16,)


def test_a_factory_may_give_unequal_lengths(tmp_path: Path) -> None:
    model = model_of(tmp_path, ids=(INT, ["N", "S"]), scale=(FLOAT, []))
    code = tmp_path / "data.py"
    code.write_text(
        "import numpy as np\n"
        "def lengths():\n"
        "    for k in range(12):\n"
        "        ids = np.full((2, 1 + k % 3), [[k], [-k - 1]])\n"
        "        yield {'ids': ids, 'scale': np.float32(k), 'labels': np.array([0, 1])}\n"
    )
    given = samples.named(f"{code}:lengths", None, split="test", model=model)
    assert (len(given), isinstance(given.inputs["ids"], list), given.labels is not None) == (24, True, True)
    chosen, judged = samples.for_calibration(f"{code}:lengths", None, count=16, model=model)
    assert (len(chosen), len(judged)) == (16, 8)
    assert given.first(5).inputs["scale"][4] == 2
    assert given.call(2)["ids"].shape == (2, 1)


def test_a_fixed_batch_is_split_into_whole_ones(tmp_path: Path) -> None:
    model = model_of(tmp_path, x=(FLOAT, [8, 4]))
    x = np.arange(64, dtype=np.float32).reshape(16, 4)
    chosen, judged = samples.for_calibration(saved(tmp_path, x=x), None, count=256, model=model)
    assert (len(chosen), len(judged)) == (8, 8)
    alone, same = samples.for_calibration(saved(tmp_path, x=x[:8]), None, count=256, model=model)
    assert len(alone) == len(same) == 8


def test_a_factory_may_give_whole_calls_of_a_fixed_batch(tmp_path: Path) -> None:
    model = model_of(tmp_path, x=(FLOAT, [3, 4]), slope=(FLOAT, [4]))
    (tmp_path / "calls.py").write_text(
        "import numpy as np\n\n\ndef calls():\n    for index in range(5):\n"
        "        yield {'x': np.full((3, 4), index, np.float32), 'slope': np.full(4, index, np.float32)}\n"
    )
    given = samples.named(f"{tmp_path}/calls.py:calls", None, split="test", model=model)
    assert len(given) == 5
    calls = list(feeds.calls(given.inputs, given.axes, 64))
    assert [call["x"].shape for call in calls] == [(3, 4)] * 5
    assert [call["slope"].tolist() for call in calls] == [[index] * 4 for index in range(5)]


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int64", "int16"])
def test_labels_are_whole_numbers_of_any_width(tmp_path: Path, dtype: str) -> None:
    file = saved(tmp_path, x=np.zeros((3, 4), np.float32), labels=np.array([0, 2, 1], dtype))
    given = samples.named(file, None, split="test")
    assert isinstance(given.labels, np.ndarray)
    assert (given.labels.tolist(), str(given.labels.dtype)) == ([0, 2, 1], "int64")


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (np.array([0.0, 1.0, 2.0]), "are float64[3]"), (np.eye(3, dtype=np.int64), "are int64[3, 3]"),
        (np.eye(3) > 0, "are bool[3, 3]"), (np.array([True, False, True]), "are bool[3]"),
        (np.zeros((3, 4, 4), np.int64), "are int64[3, 4, 4]"), (np.array(["a", "b", "c"]), "are <U1[3]"),
    ],
)  # fmt: skip
def test_other_labels_are_refused_in_a_sentence(tmp_path: Path, labels: Any, told: str) -> None:
    file = saved(tmp_path, x=np.zeros((3, 4), np.float32), labels=labels)
    with pytest.raises(BadUsage) as error:
        samples.named(file, None, split="test")
    assert told in error.value.what
    assert "one whole number a sample" in error.value.do


def test_an_input_may_be_called_labels(tmp_path: Path) -> None:
    model = model_of(tmp_path, x=(FLOAT, ["N", 4]), labels=(INT, ["N"]))
    file = saved(tmp_path, x=np.zeros((3, 4), np.float32), labels=np.array([0, 2, 1]))
    given = samples.named(file, None, split="test", model=model)
    assert (given.labels, set(given.inputs)) == (None, {"x", "labels"})


def test_numbers_of_samples_that_differ_are_told() -> None:
    with pytest.raises(BadUsage, match="'x': 3, 'y': 2"):
        Samples(inputs={"x": np.zeros((3, 1)), "y": np.zeros((2, 1))}, labels=None, source="two arrays")

"""Made-up inputs: what the graph tells of values and lengths is kept, and the model has run on them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.model_file import ModelFile
from toolchain.errors import BadUsage
from toolchain.inputs import made_up
from toolchain.inputs.samples import Samples

FLOAT, INT, BOOL, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING
Shape = Sequence[int | str]
Write = Callable[..., ModelFile]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(
        nodes: Sequence[onnx.NodeProto],
        inputs: dict[str, tuple[int, Shape]],
        outputs: dict[str, tuple[int, Shape | None]],
        weights: dict[str, np.ndarray[Any, Any]] | None = None,
    ) -> ModelFile:
        graph = helper.make_graph(
            nodes, "g",
            [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()],
            [helper.make_tensor_value_info(name, *spec) for name, spec in outputs.items()],
            [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, tmp_path / "m.onnx")
        return ModelFile(tmp_path / "m.onnx")

    return written


def made(model: ModelFile, count: int = 8) -> Samples:
    found = made_up.samples_for(model, count)
    assert len(found) == count
    assert not found.real
    return found


def array_of(samples: Samples, name: str) -> np.ndarray[Any, Any]:
    return np.asarray(samples.inputs[name])


def test_an_index_goes_over_the_whole_table_and_not_beyond(write: Write) -> None:
    """Behind a Cast, and with an offset: position ids that start at 2."""
    nodes = [
        helper.make_node("Cast", ["ids"], ["i"], to=INT),
        helper.make_node("Gather", ["table", "i"], ["e"]),
        helper.make_node("Add", ["places", "two"], ["p"]),
        helper.make_node("Gather", ["short", "p"], ["q"]),
        helper.make_node("Add", ["e", "q"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    weights = {
        "table": rng.normal(size=(100, 4)).astype("f4"), "short": rng.normal(size=(10, 4)).astype("f4"),
        "two": np.array(2),
    }  # fmt: skip
    inputs = {"ids": (TensorProto.INT32, ["N", "S"]), "places": (INT, ["N", "S"])}
    found = made(write(nodes, inputs, {"y": (FLOAT, ["N", "S", 4])}, weights))
    ids, places = array_of(found, "ids"), array_of(found, "places")
    assert (ids.min(), ids.max(), ids.dtype) == (0, 99, np.int32)
    assert (places.min(), places.max()) == (0, 7)
    assert ids.shape == places.shape == (8, 16)


def test_masks_are_ones_with_a_tail_of_zeros(write: Write) -> None:
    nodes = [
        helper.make_node("Cast", ["mask"], ["m"], to=FLOAT),
        helper.make_node("Sub", ["one", "m"], ["inverse"]),
        helper.make_node("Mul", ["inverse", "far"], ["bias"]),
        helper.make_node("Where", ["keep", "bias", "x"], ["w"]),
        helper.make_node("Softmax", ["w"], ["y"]),
    ]
    weights = {"one": np.array(1, np.float32), "far": np.array(-1e9, np.float32)}
    inputs = {"x": (FLOAT, ["N", "S"]), "mask": (INT, ["N", "S"]), "keep": (BOOL, ["N", "S"])}
    found = made(write(nodes, inputs, {"y": (FLOAT, ["N", "S"])}, weights))
    for name in ("mask", "keep"):
        mask = array_of(found, name).astype(int)
        assert 0.8 < mask.mean() < 1
        assert (np.diff(mask, axis=1) <= 0).all()


@pytest.mark.parametrize("operator", ["Log", "Sqrt", "Reciprocal"])
def test_what_has_a_logarithm_or_a_root_is_positive(write: Write, operator: str) -> None:
    found = made(write([helper.make_node(operator, ["x"], ["y"])], {"x": (FLOAT, ["N", 4])}, {"y": (FLOAT, ["N", 4])}))
    assert (array_of(found, "x") > 0).all()


def test_past_and_now_are_as_long_as_the_mask(write: Write) -> None:
    nodes = [
        helper.make_node("Concat", ["past", "now"], ["all"], axis=1),
        helper.make_node("Add", ["all", "mask"], ["y"]),
    ]
    inputs: dict[str, tuple[int, Shape]] = {
        "now": (FLOAT, ["B", "S"]),
        "past": (FLOAT, ["B", "P"]),
        "mask": (FLOAT, ["B", "T"]),
    }
    found = made(write(nodes, inputs, {"y": (FLOAT, ["B", "T"])}))
    lengths = {name: array_of(found, name).shape[1] for name in inputs}
    assert lengths["past"] + lengths["now"] == lengths["mask"]


def test_lengths_written_as_sums_are_sums(write: Write) -> None:
    nodes = [helper.make_node("Concat", ["past", "now"], ["a"], axis=1), helper.make_node("Add", ["a", "mask"], ["y"])]
    inputs: dict[str, tuple[int, Shape]] = {
        "now": (FLOAT, ["B", 1]), "past": (FLOAT, ["B", "past_length"]), "mask": (FLOAT, ["B", "past_length + 1"]),
    }  # fmt: skip
    assert array_of(made(write(nodes, inputs, {"y": (FLOAT, ["B", "T"])})), "mask").shape == (8, 17)


def test_open_height_and_width_grow_until_the_model_runs(write: Write) -> None:
    weight = np.ones((2, 3, 40, 40), np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    model = write([node], {"x": (FLOAT, ["N", "C", "H", "W"])}, {"y": (FLOAT, ["N", 2, "h", "w"])}, {"w": weight})
    assert array_of(made(model), "x").shape == (8, 3, 64, 64)


def test_values_without_a_batch_axis_are_their_own_in_each_sample(write: Write) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["s"]),
        helper.make_node("Where", ["flag", "s", "x"], ["y"]),
        helper.make_node("Add", ["place", "place"], ["z"]),
    ]
    inputs = {"x": (FLOAT, ["N", 4]), "scale": (FLOAT, []), "flag": (BOOL, []), "place": (FLOAT, [6, 4])}
    found = made(write(nodes, inputs, {"y": (FLOAT, ["N", 4]), "z": (FLOAT, [6, 4])}))
    assert [array_of(found, name).shape for name in inputs] == [(8, 4), (8,), (8,), (8, 6, 4)]
    assert set(array_of(found, "flag").tolist()) == {True, False}
    assert found.call()["scale"].shape == ()


def test_a_model_without_a_batch_axis_and_one_of_a_fixed_batch(write: Write) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    assert made(write([node], {"x": (FLOAT, [16])}, {"y": (FLOAT, [16])})).call()["x"].shape == (16,)
    fixed = made_up.samples_for(write([node], {"x": (FLOAT, [3, 5])}, {"y": (FLOAT, [3, 5])}), 8)
    assert array_of(fixed, "x").shape == (9, 5)


def test_strings_are_made(write: Write) -> None:
    node = helper.make_node("Identity", ["s"], ["y"])
    found = made(write([node], {"s": (STRING, ["N", 2])}, {"y": (STRING, ["N", 2])}))
    assert array_of(found, "s").dtype.kind == "U"


def test_what_nothing_made_up_fits_is_asked_for(write: Write) -> None:
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    model = write([node], {"x": (FLOAT, ["N", 6]), "shape": (INT, [3])}, {"y": (FLOAT, None)})
    with pytest.raises(BadUsage, match="does not run on values that nnx makes up") as error:
        made_up.samples_for(model, 4)
    assert "--samples" in error.value.do


def test_a_model_that_gives_nan_is_no_proof(write: Write) -> None:
    weights = {"nan": np.array(np.nan, np.float32)}
    node = helper.make_node("Add", ["x", "nan"], ["y"])
    model = write([node], {"x": (FLOAT, ["N", 6])}, {"y": (FLOAT, ["N", 6])}, weights)
    with pytest.raises(BadUsage, match="output 'y' holds NaN"):
        made_up.samples_for(model, 4)


def test_a_file_that_does_not_load_has_samples_all_the_same(write: Write) -> None:
    """A row of the bench, on another provider perhaps, says what is wrong."""
    node = helper.make_node("Own", ["x"], ["y"], domain="own")
    graph_inputs = {"x": (FLOAT, ["N", 6])}
    model = write([node], graph_inputs, {"y": (FLOAT, ["N", 6])})
    assert array_of(made(model), "x").shape == (8, 6)


def test_a_length_below_zero_is_an_open_one(write: Write) -> None:
    """As PaddlePaddle's converter writes a batch that may be any."""
    node = helper.make_node("Relu", ["x"], ["y"])
    model = write([node], {"x": (FLOAT, [-1, 3, "?", "?"])}, {"y": (FLOAT, [-1, 3, "?", "?"])})
    assert array_of(made(model), "x").shape == (8, 3, 16, 16)


def test_columns_of_an_index_go_into_tables_of_their_own(write: Write) -> None:
    """Categories of a table: none goes beyond the shortest."""
    nodes = [
        helper.make_node("Gather", ["cats", "zero"], ["a"], axis=1),
        helper.make_node("Gather", ["cats", "one"], ["b"], axis=1),
        helper.make_node("Gather", ["long", "a"], ["e"]),
        helper.make_node("Gather", ["short", "b"], ["f"]),
        helper.make_node("Concat", ["e", "f"], ["y"], axis=1),
    ]
    weights = {
        "long": np.ones((50, 4), np.float32), "short": np.ones((7, 4), np.float32),
        "zero": np.array(0), "one": np.array(1),
    }  # fmt: skip
    found = array_of(made(write(nodes, {"cats": (INT, ["N", 2])}, {"y": (FLOAT, ["N", 8])}, weights)), "cats")
    assert (found.min(), found.max()) == (0, 6)


def test_a_mask_may_say_what_does_not_count(write: Write) -> None:
    """All true would leave nothing, of which a softmax is NaN."""
    nodes = [helper.make_node("Where", ["padding", "far", "x"], ["w"]), helper.make_node("Softmax", ["w"], ["y"])]
    inputs = {"x": (FLOAT, ["N", "S"]), "padding": (BOOL, ["N", "S"])}
    weights = {"far": np.array(-np.inf, np.float32)}
    mask = array_of(made(write(nodes, inputs, {"y": (FLOAT, ["N", "S"])}, weights)), "padding")
    assert 0 < mask.mean() < 0.2


def test_pixels_in_bytes_reach_from_0_to_255(write: Write) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=FLOAT)]
    found = array_of(made(write(nodes, {"x": (TensorProto.UINT8, ["N", 16, 16, 3])}, {"y": (FLOAT, None)})), "x")
    assert (found.min(), found.max(), found.dtype) == (0, 255, np.uint8)


def test_a_model_without_inputs_is_named(write: Write) -> None:
    with pytest.raises(BadUsage, match="no inputs"):
        made(write([helper.make_node("Relu", ["w"], ["y"])], {}, {"y": (FLOAT, [2])}, {"w": np.ones(2, np.float32)}))

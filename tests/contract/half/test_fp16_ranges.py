"""fp16 with measured ranges: what overflows or vanishes in half precision stays in fp32, and nothing else does.

ONNX Runtime's CPU provider computes fp16 graphs in fp32 and hides an overflow: onnx's reference evaluator, which rounds
every tensor to the type it has, is the judge here.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from exporters import int4, onnx_file
from exporters.artifact import Artifact
from exporters.errors import BadModelFile, BadOption
from exporters.half import fp16
from exporters.half import ranges as half_ranges
from exporters.half.ranges import HalfRange
from exporters.model_file import ModelFile
from runtimes.ort import OrtRuntime
from tests.contract.tiny_models import MODELS
from toolchain.stats import sqnr_db

Exported = Callable[[str], Path]
Array = np.ndarray
RANDOM = np.random.default_rng(0)
SAMPLES = {"x": RANDOM.normal(size=(40, 4)).astype(np.float32)}
WEIGHT = RANDOM.normal(size=(4, 4)).astype(np.float32)


def write_model(
    path: Path, nodes: list[onnx.NodeProto], weights: Mapping[str, Array] | None = None, *, batch: int | str = "batch"
) -> Path:
    """x (batch, 4) -> MatMul 'first' -> h, then ``nodes`` -> y."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"], name="first"), *nodes],
        "half",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.asarray(array, np.float32), name)
            for name, array in ({"w": WEIGHT} | dict(weights or {})).items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx_file.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def kept_in(made: Artifact) -> set[str]:
    return {note.partition(" ")[0] for note in made.notes}


def evaluated(path: Path, feeds: Mapping[str, Array]) -> Array:
    with np.errstate(all="ignore"):
        outputs = ReferenceEvaluator(ModelFile(path).proto).run(None, dict(feeds))
    assert isinstance(outputs, list)
    return np.asarray(outputs[0])


def half_sqnr_db(src: Path, made: Path, feeds: Mapping[str, Array]) -> float:
    """The SQNR of fp16 as a machine that really rounds to half precision computes it; -inf when it is not finite."""
    wanted, got = evaluated(src, feeds), evaluated(made, feeds)
    OrtRuntime(made).open()
    return sqnr_db(wanted, got) if np.isfinite(got).all() else float("-inf")


node = helper.make_node
TROUBLE: dict[str, tuple[list[onnx.NodeProto], dict[str, Array], set[str]]] = {
    "squares overflow": (
        [
            node("Mul", ["h", "k"], ["a"], name="scale"),
            node("Mul", ["a", "a"], ["b"], name="square"),
            node("Sqrt", ["b"], ["y"], name="root"),
        ],
        {"k": np.array([1e3])},
        {"square", "root"},
    ),
    "two readers of an overflow": (
        [
            node("Mul", ["h", "k"], ["a"], name="scale"),
            node("Mul", ["a", "a"], ["b"], name="square"),
            node("Mul", ["b", "down"], ["c"], name="one"),
            node("Sqrt", ["b"], ["d"], name="other"),
            node("Add", ["c", "d"], ["y"], name="sum"),
        ],
        {"k": np.array([1e3]), "down": np.array([1e-4])},
        {"square", "one", "other"},
    ),
    "a small scale before a division": (
        [
            node("Mul", ["h", "k"], ["s"], name="small"),
            node("Mul", ["s", "k"], ["a"], name="smaller"),
            node("Abs", ["a"], ["b"], name="magnitude"),
            node("ReduceMax", ["b"], ["c"], name="largest", keepdims=1),
            node("Div", ["a", "c"], ["y"], name="normalize"),
        ],
        {"k": np.array([3e-5])},
        {"smaller", "magnitude", "largest", "normalize"},
    ),
    "the logarithm of what vanishes": (
        [
            node("Mul", ["h", "k"], ["a"], name="spread"),
            node("Softmax", ["a"], ["p"], name="softmax", axis=-1),
            node("Log", ["p"], ["y"], name="log"),
        ],
        {"k": np.array([12.0])},
        {"softmax", "log"},
    ),
    "a mean whose sum overflows": (
        [
            node("Mul", ["h", "k"], ["a"], name="scale"),
            node("Expand", ["a", "wide"], ["b"], name="repeat"),
            node("ReduceMean", ["b", "last"], ["c"], name="mean", keepdims=0),
            node("Mul", ["c", "down"], ["y"], name="unscale"),
        ],
        {"k": np.array([1e3]), "down": np.array([1e-3])},
        {"mean"},
    ),
}


@pytest.fixture(params=TROUBLE)
def trouble(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, set[str]]:
    nodes, weights, kept = TROUBLE[request.param]
    path = write_model(tmp_path / "m.onnx", nodes, weights)
    model = ModelFile(path).proto
    model.graph.initializer.append(numpy_helper.from_array(np.array([4096, 1, 4]), "wide"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "last"))
    onnx_file.save(model, path)
    return path, kept


def test_nodes_that_half_precision_breaks_stay_in_fp32(trouble: tuple[Path, set[str]], tmp_path: Path) -> None:
    src, expected = trouble
    feeds = {"x": SAMPLES["x"][:7]} if "mean" in expected else SAMPLES
    ranges = half_ranges.measure(ModelFile(src).proto, feeds)
    made = fp16.convert(ModelFile(src), tmp_path / "h.onnx", ranges=ranges)
    assert kept_in(made) == expected
    assert half_sqnr_db(src, made.path, feeds) > 50


@pytest.mark.parametrize("name", [name for name in TROUBLE if "mean" not in name])
def test_without_ranges_the_same_models_break(name: str, tmp_path: Path) -> None:
    nodes, weights, _ = TROUBLE[name]
    src = write_model(tmp_path / "m.onnx", nodes, weights)
    made = fp16.convert(ModelFile(src), tmp_path / "h.onnx")
    assert half_sqnr_db(src, made.path, SAMPLES) < 20


@pytest.mark.parametrize("name", MODELS)
def test_a_normal_net_converts_whole(name: str, exported: Exported, tmp_path: Path) -> None:
    ranges = half_ranges.measure(ModelFile(exported(name)).proto, MODELS[name].samples(64, seed=1))
    made = fp16.convert(ModelFile(exported(name)), tmp_path / "h.onnx", ranges=ranges)
    assert made.notes == ()
    assert half_sqnr_db(exported(name), made.path, MODELS[name].samples(16, seed=2)) > 50


def test_an_input_that_overflows_reaches_its_readers_in_fp32(tmp_path: Path) -> None:
    nodes = [node("Mul", ["h", "k"], ["d"], name="down"), node("MatMul", ["d", "v"], ["y"], name="last")]
    src = write_model(tmp_path / "m.onnx", nodes, {"k": np.array([1e-6]), "v": WEIGHT.T})
    feeds = {"x": SAMPLES["x"] * 1e6}
    ranges = half_ranges.measure(ModelFile(src).proto, feeds)
    made = fp16.convert(ModelFile(src), tmp_path / "h.onnx", ranges=ranges)
    assert kept_in(made) == {"first", "down"}
    assert half_sqnr_db(src, made.path, feeds) > 50
    with pytest.raises(BadOption, match="'x' reaches"):
        fp16.convert(ModelFile(src), tmp_path / "io.onnx", ranges=ranges, keep_io_types=False)


def test_a_small_addend_that_drowns_in_the_sum_keeps_nothing(tmp_path: Path) -> None:
    nodes = [
        node("Mul", ["h", "k"], ["tiny"], name="shrink"),
        node("Add", ["h", "tiny"], ["y"], name="sum"),
    ]
    src = write_model(tmp_path / "m.onnx", nodes, {"k": np.array([1e-7])})
    made = fp16.convert(ModelFile(src), tmp_path / "h.onnx", ranges=half_ranges.measure(ModelFile(src).proto, SAMPLES))
    assert made.notes == ()
    assert half_sqnr_db(src, made.path, SAMPLES) > 50


def test_a_square_of_values_near_zero_is_no_reason(tmp_path: Path) -> None:
    nodes = [node("Pow", ["h", "two"], ["y"], name="square")]
    src = write_model(tmp_path / "m.onnx", nodes, {"two": np.array(2.0)})
    feeds = {"x": np.where(RANDOM.random((40, 4)) < 0.2, 0, SAMPLES["x"]).astype(np.float32)}
    feeds["x"][0] = 1e-9
    ranges = half_ranges.measure(ModelFile(src).proto, feeds)
    assert ranges["h"].vanishing > 0
    assert fp16.convert(ModelFile(src), tmp_path / "h.onnx", ranges=ranges).notes == ()


def test_a_reason_names_the_tensor_and_its_figure(tmp_path: Path) -> None:
    src = write_model(tmp_path / "m.onnx", [node("Mul", ["h", "k"], ["y"], name="up")], {"k": np.array([6e4])})
    made = fp16.convert(ModelFile(src), tmp_path / "h.onnx", ranges=half_ranges.measure(ModelFile(src).proto, SAMPLES))
    largest = np.abs(SAMPLES["x"] @ WEIGHT).max() * 6e4
    assert made.notes == (
        f"up stays in fp32: 'y' reaches {largest:.4g} on the calibration data, and half precision ends at 65504",
    )


def test_kept_nodes_and_measured_ones_add_up(tmp_path: Path) -> None:
    nodes = [node("Mul", ["h", "k"], ["a"], name="scale"), node("Mul", ["a", "a"], ["y"], name="square")]
    src = write_model(tmp_path / "m.onnx", nodes, {"k": np.array([1e3])})
    ranges = half_ranges.measure(ModelFile(src).proto, SAMPLES)
    made = fp16.convert(ModelFile(src), tmp_path / "h.onnx", ranges=ranges, keep_fp32=["scale"])
    model = ModelFile(made.path).proto
    assert {prop.value for prop in model.metadata_props if prop.key == "nnx.fp32_nodes"} == {"scale, square"}
    assert sum(each.op_type == "Cast" for each in model.graph.node) == 2  # into the product and out of it
    with pytest.raises(BadOption, match="nobody"):
        fp16.convert(ModelFile(src), tmp_path / "h.onnx", keep_fp32=["nobody"])


def test_branches_stay_in_fp32_and_read_what_they_capture(tmp_path: Path) -> None:
    some = helper.make_tensor_value_info("some", TensorProto.FLOAT, None)
    branch = helper.make_graph([node("Mul", ["h", "w"], ["some"], name="inner")], "then", [], [some])
    plain = helper.make_graph([node("Identity", ["h"], ["same"], name="same")], "else", [], [
        helper.make_tensor_value_info("same", TensorProto.FLOAT, None)
    ])  # fmt: skip
    nodes = [
        node("ReduceSum", ["h"], ["total"], name="total", keepdims=0),
        node("Greater", ["total", "zero"], ["positive"], name="positive"),
        node("If", ["positive"], ["chosen"], name="choose", then_branch=branch, else_branch=plain),
        node("Add", ["chosen", "h"], ["y"], name="sum"),
    ]
    src = write_model(tmp_path / "m.onnx", nodes, {"zero": np.array(0.0)}, batch=4)
    made = fp16.convert(ModelFile(src), tmp_path / "h.onnx")
    for sign in (1, -1):
        assert half_sqnr_db(src, made.path, {"x": sign * SAMPLES["x"][:4]}) > 50


def test_a_quantized_model_is_refused(exported: Exported, tmp_path: Path) -> None:
    int4.convert(ModelFile(exported("mlp")), tmp_path / "q.onnx")
    with pytest.raises(BadModelFile, match="int4 already"):
        fp16.convert(ModelFile(tmp_path / "q.onnx"), tmp_path / "h.onnx")
    assert not (tmp_path / "h.onnx").exists()


def range_of(values: Array) -> HalfRange:
    seen = HalfRange()
    seen.add(values)
    return seen


floats = arrays.arrays(np.float32, st.integers(0, 50), elements=st.floats(width=32))


@given(floats, st.integers(0, 50))
def test_two_parts_merged_equal_the_whole(values: Array, cut: int) -> None:
    merged = range_of(values[:cut])
    merged.merge(range_of(values[cut:]))
    whole = range_of(values)
    assert merged.largest == whole.largest
    assert (merged.exponents == whole.exponents).all()
    assert whole.exponents.sum() == values.size


@given(floats)
def test_the_largest_is_the_largest_finite_magnitude(values: Array) -> None:
    assert range_of(values).largest == np.abs(values[np.isfinite(values)]).max(initial=0)


@pytest.mark.parametrize("scale", [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-2, 1.0, 1e3])
def test_the_estimated_error_is_that_of_rounding(scale: float) -> None:
    values = (RANDOM.normal(size=20_000) * scale).astype(np.float32)
    seen = range_of(values)
    assert seen.sqnr_db == pytest.approx(sqnr_db(values, values.astype(np.float16)), abs=1.5)
    lost = (values != 0) & (values.astype(np.float16) == 0)
    assert seen.vanishing == pytest.approx(lost.mean(), abs=1e-3)


def test_nothing_but_zeros_fits() -> None:
    seen = range_of(np.zeros(9))
    assert (seen.sqnr_db, seen.vanishing, seen.overflows) == (float("inf"), 0.0, False)

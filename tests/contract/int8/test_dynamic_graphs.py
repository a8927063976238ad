"""Graphs of every spelling become dynamic int8, and stay the same function."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from exporters.atomic_file import sha256_of
from exporters.errors import BadModelFile
from exporters.int8 import dynamic
from exporters.int8.targets import TARGETS
from exporters.model_file import ModelFile
from toolchain.stats import sqnr_db

INT8 = TARGETS["x86-avx2"]  # whose 7 bits saturate on no CPU that runs the tests
WIDTH = 32
Feeds = dict[str, np.ndarray]


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def written(
    path: Path,
    nodes: list[onnx.NodeProto],
    weights: Feeds,
    inputs: Mapping[str, tuple[int, tuple[int | str, ...]]],
    outputs: dict[str, int],
) -> Path:
    graph = helper.make_graph(
        nodes,
        "given",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name, rank in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def run(path: Path, feeds: Feeds) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, feeds)
    return found


def kept_db(src: Path, feeds: Feeds, exclude: tuple[str, ...] = ()) -> tuple[list[float], onnx.ModelProto]:
    """The SQNR of each output of ``src``'s dynamic int8 version, and that version."""
    before = sha256_of(src)
    made = dynamic.convert(ModelFile(src), src.with_name("q.onnx"), int8=INT8, exclude=exclude)
    assert sha256_of(src) == before
    quality = [sqnr_db(right, got) for right, got in zip(run(src, feeds), run(made.path, feeds), strict=True)]
    return quality, ModelFile(made.path).proto


def stored_bytes(model: onnx.ModelProto) -> int:
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


@settings(max_examples=25, deadline=None)
@given(
    alpha=st.sampled_from([1.0, 0.25, -2.0]),
    beta=st.sampled_from([1.0, 0.5, 0.0]),
    trans_a=st.booleans(),
    trans_b=st.booleans(),
    bias=st.sampled_from([None, (), (1,), (24,), (1, 24), (7, 1), (7, 24)]),
    computed=st.booleans(),
)
def test_a_gemm_of_any_spelling_stays_the_same_function(
    tmp_path_factory: pytest.TempPathFactory,
    alpha: float,
    beta: float,
    trans_a: bool,
    trans_b: bool,
    bias: tuple[int, ...] | None,
    computed: bool,
) -> None:
    path = tmp_path_factory.mktemp("gemm") / "m.onnx"
    weights = {"w": normal(24, WIDTH) if trans_b else normal(WIDTH, 24), "one": np.ones((), np.float32)}
    nodes, names = [], ["x", "w"]
    if bias is not None:
        weights["c"] = normal(*bias, seed=3) if bias else np.array(0.7, np.float32)
        names.append("d" if computed else "c")
        nodes = [helper.make_node("Mul", ["c", "one"], ["d"], "makes_the_bias")] if computed else []
    given_attributes: dict[str, Any] = {"alpha": alpha, "beta": beta, "transA": int(trans_a), "transB": int(trans_b)}
    nodes.append(helper.make_node("Gemm", names, ["y"], "gemm", **given_attributes))
    shape = (WIDTH, 7) if trans_a else (7, WIDTH)
    src = written(path, nodes, weights, {"x": (TensorProto.FLOAT, shape)}, {"y": 2})
    (quality,), model = kept_db(src, {"x": normal(*shape, seed=9)})
    assert quality > 30
    assert any(node.op_type == "MatMulInteger" for node in model.graph.node)


@pytest.mark.parametrize(
    ("weight", "activation"),
    [
        ((1, WIDTH, 24), ("n", WIDTH)),
        ((1, WIDTH, 24), ("n", 5, WIDTH)),
        ((4, WIDTH, 24), ("n", 4, 5, WIDTH)),
        ((4, WIDTH, 24), (5, WIDTH)),
        ((1, 4, WIDTH, 24), ("n", 4, 5, WIDTH)),
        ((WIDTH, 24), (WIDTH,)),
        ((WIDTH, 24), ("n", 2, 3, WIDTH)),
    ],
)
def test_weights_of_any_number_of_axes(
    weight: tuple[int, ...], activation: tuple[int | str, ...], tmp_path: Path
) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    x = normal(*(2 if axis == "n" else int(axis) for axis in activation), seed=9)
    rank = (x @ normal(*weight)).ndim
    src = written(
        tmp_path / "m.onnx", nodes, {"w": normal(*weight)}, {"x": (TensorProto.FLOAT, activation)}, {"y": rank}
    )
    (quality,), model = kept_db(src, {"x": x})
    assert quality > 30
    assert [node.op_type for node in model.graph.node].count("MatMulInteger") == 1


def test_a_constant_on_the_left_is_int8_in_the_file_and_float_in_the_product(tmp_path: Path) -> None:
    """onnxruntime 1.31 fuses int8 x uint8 into a kernel that it does not have, and cannot load such a file."""
    nodes = [helper.make_node("MatMul", ["w", "x"], ["y"], "product")]
    src = written(
        tmp_path / "m.onnx", nodes, {"w": normal(48, WIDTH)}, {"x": (TensorProto.FLOAT, ("n", WIDTH, 5))}, {"y": 3}
    )
    (quality,), model = kept_db(src, {"x": normal(2, WIDTH, 5, seed=9)})
    assert quality > 40
    assert stored_bytes(model) < 48 * WIDTH * 4 / 3


@pytest.mark.parametrize("operator", ["GRU", "RNN"])
def test_recurrent_weights_without_a_kernel_are_int8_in_the_file(operator: str, tmp_path: Path) -> None:
    gates = 3 if operator == "GRU" else 1
    weights = {name: normal(1, gates * WIDTH, WIDTH, seed=seed, scale=0.2) for seed, name in enumerate("wr")}
    nodes = [helper.make_node(operator, ["x", "w", "r"], ["y"], "recurrent", hidden_size=WIDTH)]
    src = written(tmp_path / "m.onnx", nodes, weights, {"x": (TensorProto.FLOAT, ("t", "n", WIDTH))}, {"y": 4})
    (quality,), model = kept_db(src, {"x": normal(6, 3, WIDTH, seed=9)})
    assert quality > 35
    assert stored_bytes(model) < sum(array.nbytes for array in weights.values()) / 3


@pytest.mark.parametrize("last", ["Gemm", "Transpose"])
def test_an_embedding_that_is_the_last_layer_too_is_kept_once(last: str, tmp_path: Path) -> None:
    table = normal(300, WIDTH, scale=0.5)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], "lookup"),
        helper.make_node("MatMul", ["e", "w"], ["m"], "inner"),
        helper.make_node("Tanh", ["m"], ["t"], "tanh"),
    ]
    if last == "Gemm":
        nodes.append(helper.make_node("Gemm", ["t", "table"], ["y"], "scores", transB=1))
    else:
        nodes.append(helper.make_node("Transpose", ["table"], ["turned"], "turn", perm=[1, 0]))
        nodes.append(helper.make_node("MatMul", ["t", "turned"], ["y"], "scores"))
    weights = {"table": table, "w": normal(WIDTH, WIDTH, seed=2, scale=0.3)}
    src = written(tmp_path / "m.onnx", nodes, weights, {"ids": (TensorProto.INT64, ("n",))}, {"y": 2})
    ids = np.random.default_rng(4).integers(-300, 300, 40)
    (quality,), model = kept_db(src, {"ids": ids})
    assert quality > 30
    assert stored_bytes(model) < table.size * 1.5
    # an excluded lookup needs the float table, and is exact
    (quality,), model = kept_db(src, {"ids": ids}, exclude=("lookup",))
    assert quality > 30
    assert "table" in {tensor.name for tensor in model.graph.initializer}


def test_products_in_branches_and_weights_around_them(tmp_path: Path) -> None:
    def branch(number: int) -> onnx.GraphProto:
        return helper.make_graph(
            [
                helper.make_node("Gemm", ["a", "own", "bias"], ["g"], f"own_{number}"),
                helper.make_node("MatMul", ["g", "outer"], ["o"], f"outer_{number}"),
            ],
            f"branch_{number}",
            [],
            [helper.make_tensor_value_info("o", TensorProto.FLOAT, ["n", WIDTH])],
            [
                numpy_helper.from_array(normal(WIDTH, WIDTH, seed=number, scale=0.2), "own"),
                numpy_helper.from_array(normal(WIDTH, seed=number + 5), "bias"),
            ],
        )

    nodes = [
        helper.make_node("MatMul", ["x", "outer"], ["a"], "before"),
        helper.make_node("If", ["flag"], ["i"], "choice", then_branch=branch(1), else_branch=branch(2)),
        helper.make_node("Add", ["i", "a"], ["y"], "sum"),
    ]
    inputs: dict[str, tuple[int, tuple[int | str, ...]]] = {
        "x": (TensorProto.FLOAT, ("n", WIDTH)),
        "flag": (TensorProto.BOOL, ()),
    }
    src = written(tmp_path / "m.onnx", nodes, {"outer": normal(WIDTH, WIDTH, scale=0.2)}, inputs, {"y": 2})
    for flag in (True, False):
        (quality,), model = kept_db(src, {"x": normal(6, WIDTH, seed=9), "flag": np.array(flag)})
        assert quality > 30
    assert src.with_name("q.onnx").stat().st_size < src.stat().st_size
    (quality,), model = kept_db(src, {"x": normal(6, WIDTH, seed=9), "flag": np.array(True)}, exclude=("own_1",))
    left = [node.op_type for graph in (a.g for n in model.graph.node for a in n.attribute) for node in graph.node]
    assert left.count("Gemm") == 1


def test_names_like_the_ones_that_are_added_and_a_product_that_is_an_output(tmp_path: Path) -> None:
    names = ["x_scale", "x.uint8", "w.int8", "x.scale", "w.scales", "x.zero_point", "x.uint8_1"]
    nodes, current = [], "x"
    for name in names:
        nodes.append(helper.make_node("MatMul", [current, "w"], [name], f"{name}.cast"))
        current = name
    src = written(
        tmp_path / "m.onnx",
        nodes,
        {"w": np.linalg.qr(normal(WIDTH, WIDTH))[0].astype(np.float32)},
        {"x": (TensorProto.FLOAT, ("n", WIDTH))},
        {names[0]: 2, names[-1]: 2},
    )
    quality, _ = kept_db(src, {"x": normal(6, WIDTH, seed=9)})
    assert min(quality) > 25


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_named(value: float, tmp_path: Path) -> None:
    weight = normal(WIDTH, WIDTH)
    weight[3, 4] = value
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    src = written(tmp_path / "m.onnx", nodes, {"w": weight}, {"x": (TensorProto.FLOAT, ("n", WIDTH))}, {"y": 2})
    with pytest.raises(BadModelFile, match=r"The weight 'w' in .* is NaN or infinite"):
        dynamic.convert(ModelFile(src), tmp_path / "q.onnx", int8=INT8)


def test_products_of_one_activation_share_what_it_is_in_uint8_and_fuse(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", name], [f"{name}y"], name) for name in "qkv"]
    weights = {name: normal(WIDTH, WIDTH, seed=seed) for seed, name in enumerate("qkv")}
    src = written(
        tmp_path / "m.onnx", nodes, weights, {"x": (TensorProto.FLOAT, ("n", WIDTH))}, {f"{name}y": 2 for name in "qkv"}
    )
    quality, _ = kept_db(src, {"x": normal(6, WIDTH, seed=9)})
    assert min(quality) > 30
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(tmp_path / "q.onnx", options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert sorted(kinds) == ["DynamicQuantizeLinear", *["MatMulIntegerToFloat"] * 3]


def test_an_input_with_a_default_value_stays_one(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "product"),
        helper.make_node("Mul", ["h", "gain"], ["y"], "scaled"),
    ]
    weights = {"w": normal(WIDTH, WIDTH), "gain": np.array([2.0], np.float32)}
    inputs = {"x": (TensorProto.FLOAT, ("n", WIDTH)), "gain": (TensorProto.FLOAT, (1,))}
    src = written(tmp_path / "m.onnx", nodes, weights, inputs, {"y": 2})
    made = dynamic.convert(ModelFile(src), tmp_path / "q.onnx", int8=INT8)
    graph = ModelFile(made.path).proto.graph
    assert {"x", "gain"} <= {value.name for value in graph.input}
    assert "gain" in {tensor.name for tensor in graph.initializer}

"""The error of every layer, on real conversions of the tiny models."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper

from exporters import int4, onnx_file
from exporters.half import fp16
from exporters.int8 import dynamic as int8_dynamic
from exporters.int8.static import STEPS, StaticInt8, StaticOptions
from exporters.int8.targets import format_for
from exporters.model_file import ModelFile
from tests.contract.tiny_models import MODELS
from toolchain.errors import BadUsage
from toolchain.inputs.samples import Samples
from toolchain.layers.damage import Noise, damage
from toolchain.layers.explain import explain
from toolchain.layers.record import LIMIT_DB, LayerError
from toolchain.progress import SILENT
from toolchain.stats import sqnr_db

Exported = Callable[[str], Path]
INT8 = format_for(architecture="x86_64", isa={"avx512_vnni"})
PLAIN = StaticOptions(method="minmax", skip=frozenset(STEPS))
CONVERTERS: dict[str, Callable[[Path, Path, str], object]] = {
    "fp16": lambda src, dst, name: fp16.convert(ModelFile(src), dst),
    "int8-dynamic": lambda src, dst, name: int8_dynamic.convert(ModelFile(src), dst, int8=INT8),
    "int8-static": lambda src, dst, name: static(src, dst, name),
}


def static(src: Path, dst: Path, name: str, *, keep: tuple[str, ...] = ()) -> Path:
    """Static int8 without improvements; with ``keep`` only those nodes are quantized."""
    ready = StaticInt8(ModelFile(src), samples=MODELS[name].samples(64, seed=1), int8=INT8, options=PLAIN)
    ready.write(dst, exclude=[node for node in ready.nodes if node not in keep] if keep else [])
    return dst


def by_name(errors: list[LayerError]) -> dict[str, LayerError]:
    return {error.name: error for error in errors}


def own_db(error: LayerError) -> float:
    assert error.own_sqnr_db is not None
    return error.own_sqnr_db


def accumulated_db(error: LayerError) -> float:
    assert error.accumulated_sqnr_db is not None
    return error.accumulated_sqnr_db


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("precision", CONVERTERS)
def test_every_layer_is_judged_and_has_a_name_of_the_reference(
    precision: str, name: str, exported: Exported, tmp_path: Path
) -> None:
    CONVERTERS[precision](exported(name), tmp_path / "c.onnx", name)
    errors = damage(ModelFile(tmp_path / "c.onnx"), ModelFile(exported(name)), MODELS[name].samples(20, seed=2))
    known = {node.name: node.op_type for node in ModelFile(exported(name)).proto.graph.node}
    heavy = {node for node, operator in known.items() if operator in ("Conv", "Gemm", "MatMul")}
    assert heavy <= set(by_name(errors)) <= set(known)
    assert all(known[error.name] == error.op_type for error in errors)
    assert [own_db(error) for error in errors] == sorted(own_db(error) for error in errors)
    assert math.fsum(error.noise_share or 0.0 for error in errors) == pytest.approx(1)
    assert all(-LIMIT_DB <= accumulated_db(error) <= LIMIT_DB for error in errors)
    assert {error.precision for error in errors} <= {"fp32", "int8"}
    assert all(error.weight_bytes > 100 for error in errors if error.op_type in ("Conv", "Gemm"))
    json.dumps([asdict(error) for error in errors], allow_nan=False)


def test_the_own_error_is_that_of_the_rounded_layer(exported: Exported, tmp_path: Path) -> None:
    """Against the layer written out by hand: input and weights rounded, fed with the fp32 activation.

    Its output is the graph's, which stays as the product makes it.
    """
    path = static(exported("mlp"), tmp_path / "q.onnx", "mlp")
    samples = MODELS["mlp"].samples(50, seed=2)
    constants = {each.name: numpy_helper.to_array(each) for each in ModelFile(path).proto.graph.initializer}
    wanted = {each.name: numpy_helper.to_array(each) for each in ModelFile(exported("mlp")).proto.graph.initializer}

    def rounded(values: npt.NDArray[np.float32], tensor: str) -> npt.NDArray[np.float32]:
        scale, zero = constants[f"{tensor}_scale"], constants[f"{tensor}_zero_point"].astype(np.float32)
        stored = np.clip(np.rint(values / scale) + zero, 0, 255)
        found: npt.NDArray[np.float32] = ((stored - zero) * scale).astype(np.float32)
        return found

    weight = constants["2.weight_quantized"] * constants["2.weight_scale"][:, None]
    first = samples["x"] @ wanted["0.weight"].T + wanted["0.bias"]
    hidden = np.maximum(first, 0)
    right = hidden @ wanted["2.weight"].T + wanted["2.bias"]
    got = rounded(hidden, "relu") @ weight.T + wanted["2.bias"]
    found = by_name(damage(ModelFile(path), ModelFile(exported("mlp")), samples))["node_linear_1"]
    assert own_db(found) == pytest.approx(sqnr_db(right, got), abs=0.1)
    assert own_db(found) > accumulated_db(found)


@pytest.mark.parametrize("node", ["node_Conv_28", "node_conv2d_2", "node_linear"])
def test_the_own_error_is_what_a_model_with_that_layer_alone_in_int8_has(
    node: str, exported: Exported, tmp_path: Path
) -> None:
    samples = MODELS["residual"].samples(40, seed=2)
    whole = by_name(
        damage(
            ModelFile(static(exported("residual"), tmp_path / "q.onnx", "residual")),
            ModelFile(exported("residual")),
            samples,
        )
    )
    path = static(exported("residual"), tmp_path / "one.onnx", "residual", keep=(node, "node_relu_1"))
    alone = by_name(damage(ModelFile(path), ModelFile(exported("residual")), samples))
    heavy = [error for error in alone.values() if error.op_type in ("Conv", "Gemm")]
    assert [error.name for error in heavy if error.precision == "int8"] == [node]
    assert own_db(whole[node]) == pytest.approx(accumulated_db(alone[node]), abs=0.05)
    assert own_db(whole[node]) == pytest.approx(own_db(alone[node]), abs=0.05)


def test_a_spoilt_layer_comes_first_and_does_not_taint_the_others(exported: Exported, tmp_path: Path) -> None:
    path = static(exported("residual"), tmp_path / "q.onnx", "residual")
    samples = MODELS["residual"].samples(20, seed=2)
    before = by_name(damage(ModelFile(path), ModelFile(exported("residual")), samples))
    model = ModelFile(path).proto
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "depthwise.0.weight_scale")
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(1.5), scale.name))
    onnx_file.save(model, path)
    errors = damage(ModelFile(path), ModelFile(exported("residual")), samples)
    after = by_name(errors)
    assert errors[0].name == "node_Conv_28"
    assert (errors[0].noise_share or 0.0) > 0.9
    assert accumulated_db(after["node_linear"]) < accumulated_db(before["node_linear"]) - 6
    for name in set(before) - {"node_Conv_28"}:
        assert own_db(after[name]) == pytest.approx(own_db(before[name]), abs=0.01)


@pytest.mark.parametrize("name", ["residual", "attention"])
def test_neither_batch_size_nor_memory_budget_changes_the_result(name: str, exported: Exported, tmp_path: Path) -> None:
    path = static(exported(name), tmp_path / "q.onnx", name)
    samples = MODELS[name].samples(23, seed=2)
    whole = by_name(damage(ModelFile(path), ModelFile(exported(name)), samples, batch=64))
    parts = by_name(damage(ModelFile(path), ModelFile(exported(name)), samples, batch=5, memory_budget=1))
    assert set(whole) == set(parts)
    for layer, error in whole.items():
        assert own_db(parts[layer]) == pytest.approx(own_db(error), abs=0.01)
        assert accumulated_db(parts[layer]) == pytest.approx(accumulated_db(error), abs=0.01)


def test_int4_layers_are_judged(exported: Exported, tmp_path: Path) -> None:
    int4.convert(ModelFile(exported("mlp")), tmp_path / "q.onnx")
    errors = damage(ModelFile(tmp_path / "q.onnx"), ModelFile(exported("mlp")), MODELS["mlp"].samples(20, seed=2))
    assert errors[0].precision == "int4"
    assert 10 < own_db(errors[0]) < 35


@pytest.mark.parametrize("activation", ["uint8", "int8"])
def test_a_relu_belongs_to_the_layer_before_it(activation: str, exported: Exported, tmp_path: Path) -> None:
    """The range of a convolution before a Relu is that of the Relu: what it cuts off below zero is no error.

    With uint8 the quantizer removes the Relu, with symmetric int8 it stays.
    """
    int8 = format_for(architecture="x86_64" if activation == "uint8" else "aarch64", isa={"avx512_vnni"})
    assert int8.activation == activation
    samples = MODELS["residual"].samples(64, seed=1)
    ready = StaticInt8(ModelFile(exported("residual")), samples=samples, int8=int8, options=PLAIN)
    ready.write(tmp_path / "q.onnx")
    found = by_name(
        damage(ModelFile(tmp_path / "q.onnx"), ModelFile(exported("residual")), MODELS["residual"].samples(20, seed=2))
    )
    assert {found["node_Conv_27"].output, found["node_Conv_28"].output} == {"relu", "relu_1"}
    assert min(own_db(found["node_Conv_27"]), own_db(found["node_Conv_28"])) > 25
    assert "node_relu" not in found


def test_a_merged_layer_says_into_which(exported: Exported, tmp_path: Path) -> None:
    int8_dynamic.convert(ModelFile(exported("attention")), tmp_path / "q.onnx", int8=INT8)
    given = Samples(inputs=MODELS["attention"].samples(8), labels=None, source="eight samples")
    found = explain(
        ModelFile(tmp_path / "q.onnx"),
        given,
        reference=ModelFile(exported("attention")),
        threads=1,
        progress=SILENT,
    )
    layers = {layer.name: layer for layer in found.layers}
    bias, product = layers["node_linear"], layers["node_MatMul_1"]
    assert (bias.fused_into, bias.runs_as, bias.time_share) == ("node_MatMul_1", "", 0.0)
    assert (product.runs_as, product.precision) == ("MatMulIntegerToFloat", "int8")
    assert layers["node_matmul"].precision == "fp32"
    assert found.conversion_share + sum(layer.time_share for layer in found.layers) == pytest.approx(1)


def test_a_layer_has_the_precision_of_its_main_operator(exported: Exported, tmp_path: Path) -> None:
    int8_dynamic.convert(ModelFile(exported("mlp")), tmp_path / "q.onnx", int8=INT8)
    found = by_name(damage(ModelFile(tmp_path / "q.onnx"), ModelFile(exported("mlp")), MODELS["mlp"].samples(8)))
    assert found["node_linear"].output == "relu"  # the Relu runs beside it in fp32
    assert {name: error.precision for name, error in found.items()} == {
        **dict.fromkeys(("node_linear", "node_linear_1", "node_linear_2"), "int8"),
        "node_gelu": "fp32",
    }


def test_layers_around_a_renamed_tensor_are_judged_together(exported: Exported, tmp_path: Path) -> None:
    path = static(exported("residual"), tmp_path / "q.onnx", "residual")
    text = ModelFile(path).proto.SerializeToString()
    model = onnx.ModelProto.FromString(text)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["relu.scaled" if name == "relu" else name for name in names]
    onnx_file.save(model, path)
    found = by_name(damage(ModelFile(path), ModelFile(exported("residual")), MODELS["residual"].samples(20, seed=2)))
    together = found["node_Conv_27"], found["node_Conv_28"]
    assert {error.output for error in together} == {"relu_1"}
    assert [error.own_sqnr_db for error in together] == [None, None]
    assert all(accumulated_db(error) > 20 for error in together)


def small_model(
    path: Path, nodes: list[onnx.NodeProto], *, batch: int | str = "batch", constants: Mapping[str, float] | None = None
) -> Path:
    """x (batch, 4) -> y (batch, 4)."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 4]) for name in "xy"]
    stored = [
        numpy_helper.from_array(np.full((4, 4), value, np.float32), name) for name, value in (constants or {}).items()
    ]
    graph = helper.make_graph(nodes, "small", values[:1], values[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx_file.check(model, step="test")
    onnx_file.save(model, path)
    return path


def inputs(count: int) -> dict[str, npt.NDArray[np.generic]]:
    return {"x": np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)}


def two_products(hidden: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("MatMul", ["x", "w"], [hidden], "first"),
        helper.make_node("MatMul", [hidden, "v"], ["y"], "second"),
    ]


def test_a_fixed_batch_is_kept_and_too_few_samples_are_refused(tmp_path: Path) -> None:
    reference = small_model(tmp_path / "a.onnx", two_products("h"), batch=4, constants={"w": 0.3, "v": 0.2})
    other = small_model(tmp_path / "b.onnx", two_products("h"), batch=4, constants={"w": 0.3, "v": 0.2002})
    found = by_name(damage(ModelFile(other), ModelFile(reference), inputs(10)))
    assert own_db(found["first"]) == LIMIT_DB
    assert own_db(found["second"]) == accumulated_db(found["second"]) == pytest.approx(60, abs=0.1)
    with pytest.raises(BadUsage, match="4 samples at a time"):
        damage(ModelFile(other), ModelFile(reference), inputs(3))


def test_a_layer_that_gives_no_numbers_is_the_worst_there_is(tmp_path: Path) -> None:
    reference = small_model(tmp_path / "a.onnx", two_products("h"), constants={"w": 0.3, "v": 0.2})
    other = small_model(tmp_path / "b.onnx", two_products("h"), constants={"w": 0.3, "v": math.inf})
    worst = damage(ModelFile(other), ModelFile(reference), inputs(5))[0]
    assert (worst.name, worst.own_sqnr_db, worst.noise_share) == ("second", -LIMIT_DB, 1.0)


def test_a_layer_with_a_subgraph_has_an_accumulated_error_alone(tmp_path: Path) -> None:
    def branch(name: str, factor: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node("MatMul", ["h", factor], [name], name)], name, [], [out])

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
        helper.make_node("ReduceSum", ["h"], ["total"], "sum", keepdims=0),
        helper.make_node("Greater", ["total", "limit"], ["large"], "compare"),
        helper.make_node("If", ["large"], ["y"], "choose", then_branch=branch("a", "w"), else_branch=branch("b", "v")),
    ]
    nodes.insert(2, helper.make_node("Constant", [], ["limit"], "limit", value_float=0.0))
    paths = [
        small_model(tmp_path / f"{index}.onnx", nodes, constants={"w": value, "v": 0.1})
        for index, value in enumerate((0.5, 0.501))
    ]
    found = by_name(damage(ModelFile(paths[1]), ModelFile(paths[0]), inputs(8)))
    assert own_db(found["first"]) == pytest.approx(54, abs=0.5)
    assert found["choose"].own_sqnr_db is None
    assert 40 < accumulated_db(found["choose"]) < 60


@pytest.mark.parametrize(
    ("hidden", "batch", "why"),
    [("other", "batch", "no tensor inside"), ("h", 7, "float32\\[7, 4\\]")],
    ids=["names", "inputs"],
)
def test_models_that_do_not_belong_together_are_refused(
    hidden: str, batch: int | str, why: str, tmp_path: Path
) -> None:
    reference = small_model(tmp_path / "a.onnx", two_products("h"), batch=2, constants={"w": 0.3, "v": 0.2})
    other = small_model(tmp_path / "b.onnx", two_products(hidden), batch=batch, constants={"w": 0.3, "v": 0.2})
    if hidden == "other":  # the outputs differ as well
        model = ModelFile(other).proto
        model.graph.node[-1].output[0] = model.graph.output[0].name = "z"
        onnx_file.save(model, other)
    with pytest.raises(BadUsage, match=why):
        damage(ModelFile(other), ModelFile(reference), inputs(14))


def test_other_inputs_and_other_shapes_are_refused(exported: Exported, tmp_path: Path) -> None:
    path = static(exported("residual"), tmp_path / "q.onnx", "residual")
    with pytest.raises(BadUsage, match="their input 'x'"):
        damage(ModelFile(path), ModelFile(exported("attention")), MODELS["residual"].samples(2))


FLOATS = st.floats(-1e4, 1e4, width=32)
TENSORS = arrays.arrays(np.float32, (6, 5), elements=FLOATS)


@given(TENSORS, TENSORS, st.integers(1, 5))
def test_noise_does_not_depend_on_how_it_is_added_up(
    wanted: npt.NDArray[np.float32], got: npt.NDArray[np.float32], cut: int
) -> None:
    whole, parts = Noise(), Noise()
    whole.add(wanted, got)
    for rows in (slice(cut), slice(cut, None)):
        parts.add(wanted[rows], got[rows])
    expected = min(LIMIT_DB, max(-LIMIT_DB, sqnr_db(wanted, got)))
    assert whole.sqnr_db == pytest.approx(expected, abs=1e-3)
    assert parts.sqnr_db == pytest.approx(expected, abs=1e-3)


def test_noise_too_small_to_square_in_single_precision_is_seen() -> None:
    noise = Noise()
    noise.add(np.zeros((2, 2), np.float32), np.full((2, 2), 1e-38, np.float32))
    assert noise.sqnr_db == -LIMIT_DB
    noise = Noise()
    noise.add(np.full((2, 2), 1e-25, np.float32), np.full((2, 2), 1.1e-25, np.float32))
    assert noise.sqnr_db == pytest.approx(20, abs=0.01)


def test_the_infinities_of_a_mask_are_no_noise() -> None:
    noise = Noise()
    noise.add(np.array([[-np.inf, 1.0]], np.float32), np.array([[-np.inf, 1.1]], np.float32))
    assert noise.sqnr_db == pytest.approx(20, abs=0.01)
    noise.add(np.array([[1.0, 1.0]], np.float32), np.array([[np.nan, 1.0]], np.float32))
    assert noise.sqnr_db == -LIMIT_DB

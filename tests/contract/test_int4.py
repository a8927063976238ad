"""int4: weights of matrix products in blocks of 4 bits."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from exporters import int4, onnx_file, provenance, torch_onnx
from exporters.artifact import Artifact
from exporters.atomic_file import sha256_of
from exporters.errors import BadModelFile, BadOption, NotApplicable
from exporters.half import bf16, fp16
from exporters.model_file import ModelFile
from runtimes.ort import OrtRuntime
from tests.contract.comparing import compared
from tests.contract.tiny_models import MODELS

Exported = Callable[[str], Path]
RANDOM = np.random.default_rng(0)


def write_model(path: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], *, width: int) -> Path:
    """x (batch, width) -> y through ``nodes``."""
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx_file.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def one_product(path: Path, shape: tuple[int, int]) -> Path:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    return write_model(path, nodes, {"w": RANDOM.normal(size=shape)}, width=shape[0])


def noise_of(made: Path, src: Path, width: int) -> float:
    feeds = {"x": RANDOM.normal(size=(64, width)).astype(np.float32)}
    return compared(made, src, feeds, precision="int4").sqnr_db or 0


def operators(path: Path) -> list[str]:
    return [node.op_type for node in ModelFile(path).proto.graph.node]


@pytest.mark.parametrize("name", ["mlp", "casting", "attention"])
def test_int4_passes_parity_and_records_where_it_comes_from(name: str, exported: Exported, tmp_path: Path) -> None:
    src, dst = exported(name), tmp_path / "q.onnx"
    before = sha256_of(src)
    made = int4.convert(ModelFile(src), dst)
    assert (made.path, made.precision, made.sha256, made.parent_sha256) == (dst, "int4", sha256_of(dst), before)
    assert sha256_of(src) == before
    assert onnx_file.precision_of(ModelFile(dst).proto) == "int4"
    facts = provenance.read(ModelFile(dst).proto)
    assert facts["int4_format"] == "4-bit weights in blocks of 32, symmetric, accuracy level 4"
    assert onnx_file.interface_of(ModelFile(dst).proto) == onnx_file.interface_of(ModelFile(src).proto)
    found = compared(dst, src, MODELS[name].samples(64, seed=2), precision="int4")
    assert found.sqnr_db is not None
    assert found.sqnr_db > 15
    assert int4.convert(ModelFile(src), tmp_path / "again.onnx").sha256 == made.sha256


def test_a_linear_model_shrinks_about_sevenfold(tmp_path: Path) -> None:
    """5 bits a weight in blocks of 32, 4.5 in blocks of 64."""
    src = one_product(tmp_path / "m.onnx", (512, 512))
    whole = src.stat().st_size
    assert whole / int4.convert(ModelFile(src), tmp_path / "32.onnx").size_bytes == pytest.approx(32 / 5, rel=0.02)
    assert whole / int4.convert(ModelFile(src), tmp_path / "64.onnx", block_size=64).size_bytes == pytest.approx(
        32 / 4.5, rel=0.02
    )


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("inputs", [256, 40, 17, 33])
def test_features_that_are_no_multiple_of_the_block_work(inputs: int, symmetric: bool, tmp_path: Path) -> None:
    src = one_product(tmp_path / "m.onnx", (inputs, 48))
    made = int4.convert(ModelFile(src), tmp_path / "q.onnx", symmetric=symmetric)
    assert noise_of(made.path, src, inputs) > 20


def test_smaller_blocks_and_zero_points_keep_more(tmp_path: Path) -> None:
    src = one_product(tmp_path / "m.onnx", (512, 256))
    kept = [
        noise_of(int4.convert(ModelFile(src), tmp_path / "q.onnx", block_size=size, symmetric=symmetric).path, src, 512)
        for size, symmetric in ((128, True), (32, True), (32, False), (16, False))
    ]
    assert kept == sorted(kept)


@pytest.mark.parametrize(
    "attributes",
    [{}, {"transB": 1}, {"transB": 1, "alpha": 1.0, "beta": 1.0}],
    ids=["plain", "transposed", "spelt out"],
)
@pytest.mark.parametrize("biased", [True, False])
def test_a_gemm_becomes_a_product_and_an_add(attributes: dict[str, Any], biased: bool, tmp_path: Path) -> None:
    weight = RANDOM.normal(size=(24, 40) if "transB" in attributes else (40, 24))
    names = ["x", "w", "b"] if biased else ["x", "w"]
    nodes = [helper.make_node("Gemm", names, ["y"], name="linear", **attributes)]
    src = write_model(tmp_path / "m.onnx", nodes, {"w": weight, "b": RANDOM.normal(size=24) * 50}, width=40)
    made = int4.convert(ModelFile(src), tmp_path / "q.onnx")
    assert operators(made.path) == ["MatMulNBits", "Add"][: 1 + biased]
    assert noise_of(made.path, src, 40) > 20


@pytest.mark.parametrize("attributes", [{"alpha": 0.5}, {"beta": 2.0}, {"alpha": -3.0, "beta": 0.0}, {"transA": 1}])
def test_a_gemm_that_scales_or_turns_its_activation_is_a_product_too(
    attributes: dict[str, Any], tmp_path: Path
) -> None:
    turned = [helper.make_node("Transpose", ["x"], ["given"], name="turn")] if "transA" in attributes else []
    nodes = [
        *turned,
        helper.make_node("Gemm", ["given" if turned else "x", "w", "b"], ["h"], name="scaled", **attributes),
        helper.make_node("MatMul", ["h", "w"], ["y"], name="plain"),
    ]
    weights = {"w": RANDOM.normal(size=(40, 40)), "b": RANDOM.normal(size=40)}
    src = write_model(tmp_path / "m.onnx", nodes, weights, width=40)
    made = int4.convert(ModelFile(src), tmp_path / "q.onnx")
    assert operators(made.path).count("MatMulNBits") == 2
    assert noise_of(made.path, src, 40) > 15


def test_products_in_branches_and_one_matrix_of_three_axes_count(tmp_path: Path) -> None:
    branches = {
        f"{which}_branch": helper.make_graph(
            [helper.make_node("MatMul", ["h", weight], [which], name=f"in_{which}")],
            which,
            [],
            [helper.make_tensor_value_info(which, TensorProto.FLOAT, None)],
            [numpy_helper.from_array(RANDOM.normal(size=(40, 40)).astype(np.float32), "own")],
        )
        for which, weight in (("then", "own"), ("else", "w"))
    }
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axis"], ["wide"], name="widen"),
        helper.make_node("MatMul", ["wide", "w3"], ["h3"], name="three"),
        helper.make_node("Squeeze", ["h3", "axis"], ["h"], name="narrow"),
        helper.make_node("ReduceMax", ["x"], ["most"], name="most", keepdims=0),
        helper.make_node("Greater", ["most", "two"], ["large"], name="large"),
        helper.make_node("If", ["large"], ["y"], name="choose", **branches),
    ]
    weights = {"w": RANDOM.normal(size=(40, 40)), "w3": RANDOM.normal(size=(1, 40, 40)), "two": np.array(2.0)}
    src = write_model(tmp_path / "m.onnx", nodes, weights, width=40)
    whole = ModelFile(src).proto
    whole.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axis"))
    onnx.save(whole, src)
    made = int4.convert(ModelFile(src), tmp_path / "q.onnx")
    inside = [node.op_type for graph in onnx_file.graphs_of(ModelFile(made.path).proto) for node in graph.node]
    assert inside.count("MatMulNBits") == 3
    assert noise_of(made.path, src, 40) > 12


def test_a_table_that_is_the_last_layer_too_shrinks_and_names_that_are_taken_stay(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"], name="look_up"),
            helper.make_node("MatMul", ["rows", "w.scales"], ["h"], name="first"),
            helper.make_node("Gemm", ["h", "table"], ["y"], name="last", transB=1),
        ],
        "tied",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(RANDOM.normal(size=(200, 64)).astype(np.float32), "table"),
            numpy_helper.from_array(RANDOM.normal(size=(64, 64)).astype(np.float32) / 8, "w.scales"),
        ],
    )
    src = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), src)
    made = int4.convert(ModelFile(src), tmp_path / "q.onnx")
    assert made.size_bytes < 0.45 * src.stat().st_size
    ids = {"ids": RANDOM.integers(0, 200, 64)}
    assert (compared(made.path, src, ids, precision="int4").sqnr_db or 0) > 15


def test_a_weight_that_two_products_share_is_packed_once_for_each_way_it_is_read(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="one"),
        helper.make_node("MatMul", ["a", "w"], ["b"], name="two"),
        helper.make_node("Gemm", ["b", "w"], ["y"], name="three", transB=1),
    ]
    src = write_model(tmp_path / "m.onnx", nodes, {"w": RANDOM.normal(size=(40, 40))}, width=40)
    made = int4.convert(ModelFile(src), tmp_path / "q.onnx")
    assert operators(made.path) == ["MatMulNBits"] * 3
    stored = [tensor.name for tensor in ModelFile(made.path).proto.graph.initializer]
    assert stored == ["w.int4", "w.scales", "w.T.int4", "w.T.scales"]
    assert noise_of(made.path, src, 40) > 15


def test_excluded_nodes_and_the_weights_they_share_stay_fp32(exported: Exported, tmp_path: Path) -> None:
    gemms = [node for node in ModelFile(exported("mlp")).proto.graph.node if node.op_type == "Gemm"]
    made = int4.convert(ModelFile(exported("mlp")), tmp_path / "q.onnx", exclude=[gemms[0].name])
    model = ModelFile(made.path).proto
    assert {node.name: node.op_type for node in model.graph.node}[gemms[0].name] == "Gemm"
    assert gemms[0].input[1] in {tensor.name for tensor in model.graph.initializer}
    assert provenance.read(model)["fp32_nodes"] == gemms[0].name
    assert any(node.op_type == "MatMulNBits" and node.name == gemms[1].name for node in model.graph.node)


def test_a_weight_in_a_constant_node_counts(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(RANDOM.normal(size=(40, 32)).astype(np.float32))
    nodes = [
        helper.make_node("Constant", [], ["w"], name="weight", value=weight),
        helper.make_node("MatMul", ["x", "w"], ["y"], name="product"),
    ]
    src = write_model(tmp_path / "m.onnx", nodes, {}, width=40)
    made = int4.convert(ModelFile(src), tmp_path / "q.onnx")
    assert operators(made.path) == ["MatMulNBits"]
    assert noise_of(made.path, src, 40) > 20


@pytest.mark.parametrize("shape", [(10, 10), (4, 512), (512, 1)])
def test_a_file_never_grows(shape: tuple[int, int], tmp_path: Path) -> None:
    src = one_product(tmp_path / "m.onnx", shape)
    try:
        made = int4.convert(ModelFile(src), tmp_path / "q.onnx")
    except NotApplicable:
        assert not (tmp_path / "q.onnx").exists()
        assert shape != (512, 1)
    else:
        assert shape == (512, 1)
        assert made.size_bytes < src.stat().st_size


def test_what_cannot_become_int4_says_why_and_leaves_no_file(exported: Exported, tmp_path: Path) -> None:
    dst = tmp_path / "q.onnx"
    makers: dict[str, Callable[[ModelFile, Path], Artifact]] = {
        "int4": int4.convert,
        "fp16": fp16.convert,
        "bf16": bf16.convert,
    }
    for name, make in makers.items():
        make(ModelFile(exported("mlp")), tmp_path / f"{name}.onnx")
    with pytest.raises(BadModelFile, match="int4 already"):
        int4.convert(ModelFile(tmp_path / "int4.onnx"), dst)
    for name in ("fp16", "bf16"):  # widened first
        assert int4.convert(ModelFile(tmp_path / f"{name}.onnx"), tmp_path / "made.onnx").precision == "int4"
    with pytest.raises(BadOption, match="nobody"):
        int4.convert(ModelFile(exported("mlp")), dst, exclude=["nobody"])
    with pytest.raises(BadOption, match="block size of 48"):
        int4.convert(ModelFile(exported("mlp")), dst, block_size=48)
    with pytest.raises(BadOption, match="accuracy level 9"):
        int4.convert(ModelFile(exported("mlp")), dst, accuracy_level=9)
    all_names = [node.name for node in ModelFile(exported("mlp")).proto.graph.node]
    with pytest.raises(NotApplicable):
        int4.convert(ModelFile(exported("mlp")), dst, exclude=all_names)
    assert not dst.exists()


def test_the_library_below_neither_prints_nor_changes_logging(
    exported: Exported, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Importing onnxruntime's quantizer calls logging.basicConfig(level=INFO)."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    int4.convert(ModelFile(exported("mlp")), tmp_path / "q.onnx")
    assert (list(root.handlers), root.level) == before
    assert capfd.readouterr() == ("", "")


def test_tokens_of_three_axes_go_through_a_linear_layer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(48, 64), nn.GELU(), nn.Linear(64, 40)).eval()
    tokens = {"x": RANDOM.normal(size=(9, 7, 48)).astype(np.float32)}
    src = tmp_path / "m.onnx"
    example = {"x": torch.from_numpy(tokens["x"][:2])}
    torch_onnx.export(module, src, example_inputs=example, output_names=["y"])
    made = int4.convert(ModelFile(src), tmp_path / "q.onnx")
    assert operators(made.path).count("MatMulNBits") == 2
    assert (compared(made.path, src, tokens, precision="int4").sqnr_db or 0) > 15
    OrtRuntime(made.path).open()

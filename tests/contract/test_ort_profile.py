"""What the profile says ONNX Runtime executes."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import fp16, int4, int8_dynamic, int8_static, onnx_file
from exporters.targets import format_for
from runtimes import ort_profile
from runtimes.errors import BadFeed, NotLoadable
from runtimes.ort_profile import NodeTime
from tests.contract.tiny_models import MODELS

Exported = Callable[[str], Path]
INT8 = format_for(architecture="x86_64", isa={"avx512_vnni"})


def profile(path: Path, name: str) -> list[NodeTime]:
    return ort_profile.time_shares(path, MODELS[name].samples(2), threads=1, runs=4)


def static(exported: Exported, name: str, folder: Path) -> Path:
    samples = MODELS[name].samples(32, seed=1)
    return int8_static.convert(exported(name), folder / "s.onnx", samples=samples, int8=INT8).path


@pytest.mark.parametrize("name", MODELS)
def test_shares_add_up_and_nothing_is_left_on_the_disk(
    name: str, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = exported(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    nodes = profile(path, name)
    assert sum(node.share for node in nodes) == pytest.approx(1)
    assert {node.provider for node in nodes} == {"CPUExecutionProvider"}
    assert all(node.mean_us >= 0 for node in nodes)
    assert len({node.name for node in nodes}) == len(nodes)
    assert list(tmp_path.iterdir()) == []


def test_the_operators_are_those_after_fusion(exported: Exported, tmp_path: Path) -> None:
    plain = profile(exported("residual"), "residual")
    assert "Relu" not in {node.op_type for node in plain}  # merged into the convolutions
    assert {node.precision for node in plain} == {"fp32"}
    quantized = {node.op_type: node.precision for node in profile(static(exported, "residual", tmp_path), "residual")}
    assert quantized["QLinearConv"] == quantized["QLinearAdd"] == quantized["QGemm"] == "int8"
    assert quantized["ReduceMean"] == "fp32"
    assert "Conv" not in quantized


def test_the_precision_is_the_one_computed_in(exported: Exported, tmp_path: Path) -> None:
    int8_dynamic.convert(exported("mlp"), tmp_path / "d.onnx", int8=INT8)
    int4.convert(exported("mlp"), tmp_path / "q.onnx")
    fp16.convert(exported("mlp"), tmp_path / "h.onnx")
    found = {
        name: {node.op_type: node.precision for node in profile(tmp_path / f"{name}.onnx", "mlp")} for name in "dqh"
    }
    assert found["d"]["DynamicQuantizeMatMul"] == "int8"
    assert found["q"]["MatMulNBits"] == "int4"
    assert found["h"]["Gemm"] == "fp32"  # the CPU has no fp16 kernels: it computes the fp16 file in fp32


def test_what_int8_left_over_is_named_with_the_reason(exported: Exported, tmp_path: Path) -> None:
    left = {
        node.name: node for node in ort_profile.unfused(profile(static(exported, "residual", tmp_path), "residual"))
    }
    assert left["node_mean"].op_type == "ReduceMean"
    assert "fp32 between DequantizeLinear and QuantizeLinear" in left["node_mean"].why
    assert {node.op_type for node in left.values()} == {"ReduceMean", "QuantizeLinear", "DequantizeLinear"}
    # the Q at the input and the DQ at the output have to be
    assert "x_QuantizeLinear" not in left
    assert "scores_DequantizeLinear" not in left
    shares = [node.share for node in left.values()]
    assert shares == sorted(shares, reverse=True)


def test_a_model_without_q_and_dq_has_nothing_left_over(exported: Exported) -> None:
    assert ort_profile.unfused(profile(exported("attention"), "attention")) == []


def test_a_convolution_that_no_int8_kernel_takes_is_left_over(tmp_path: Path) -> None:
    """Its weights are quantized to 16 bits, its activations to 8."""
    weight = numpy_helper.from_array(np.ones((4, 4), dtype=np.int16), "w")
    constants = [
        helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1]),
        helper.make_tensor("zero8", TensorProto.UINT8, [], [0]),
        helper.make_tensor("zero16", TensorProto.INT16, [], [0]),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero8"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero8"], ["d"], "d"),
        helper.make_node("DequantizeLinear", ["w", "scale", "zero16"], ["dw"], "dw"),
        helper.make_node("MatMul", ["d", "dw"], ["m"], "product"),
        helper.make_node("QuantizeLinear", ["m", "scale", "zero8"], ["qm"], "qm"),
        helper.make_node("DequantizeLinear", ["qm", "scale", "zero8"], ["y"], "y"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "mixed", values[:1], values[1:], [weight, *constants])
    onnx_file.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "m.onnx"
    )
    feeds = {"x": np.ones((2, 4), dtype=np.float32)}
    left = {
        node.name: node.why
        for node in ort_profile.unfused(ort_profile.time_shares(tmp_path / "m.onnx", feeds, threads=1, runs=2))
    }
    assert left["product"] == "it runs in fp32 on quantized weights"
    assert left["dw"] == "its weights are dequantized in every run"


def test_nodes_without_names_get_their_outputs(exported: Exported, tmp_path: Path) -> None:
    model = onnx.load(exported("mlp"))
    for node in model.graph.node:
        node.name = ""
    onnx.save(model, tmp_path / "m.onnx")
    nodes = profile(tmp_path / "m.onnx", "mlp")
    assert "scores" in {node.name for node in nodes}
    assert len(nodes) == len(profile(exported("mlp"), "mlp"))


def test_what_cannot_run_says_so(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(BadFeed, match="wants float32"):
        ort_profile.time_shares(exported("mlp"), {"x": np.zeros((2, 3), np.float32)}, threads=1, runs=1)
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(NotLoadable):
        ort_profile.time_shares(tmp_path / "m.onnx", {}, threads=1, runs=1)

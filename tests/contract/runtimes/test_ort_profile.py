"""What the profile says ONNX Runtime executes."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import int4, onnx_file
from exporters.half import fp16
from exporters.int8 import dynamic as int8_dynamic
from exporters.int8 import static as int8_static
from exporters.int8.targets import format_for
from exporters.model_file import ModelFile
from runtimes import ort_profile
from runtimes.errors import BadFeed, NotLoadable, ProviderUnavailable, RunFailed
from runtimes.ort_profile import NodeTime
from runtimes.ort_session import start
from runtimes.session_settings import SessionSettings
from tests.contract.tiny_models import MODELS
from toolchain.bench import profile as bench_profile

Exported = Callable[[str], Path]
ROOT = Path(__file__).resolve().parents[3]
OFFERED = onnxruntime.get_available_providers()
INT8 = format_for(architecture="x86_64", isa={"avx512_vnni"})


def profile(path: Path, name: str) -> list[NodeTime]:
    return ort_profile.time_shares(path, MODELS[name].samples(2), threads=1, runs=4)


def static(exported: Exported, name: str, folder: Path) -> Path:
    samples = MODELS[name].samples(32, seed=1)
    return int8_static.convert(ModelFile(exported(name)), folder / "s.onnx", samples=samples, int8=INT8).path


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
    int8_dynamic.convert(ModelFile(exported("mlp")), tmp_path / "d.onnx", int8=INT8)
    int4.convert(ModelFile(exported("mlp")), tmp_path / "q.onnx")
    fp16.convert(ModelFile(exported("mlp")), tmp_path / "h.onnx")
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


def saved(nodes: list[onnx.NodeProto], kind: int, path: Path) -> Path:
    """A model of ``nodes`` from x to y, four by four, with the weight w."""
    weight = numpy_helper.from_array(np.ones((4, 4), dtype=helper.tensor_dtype_to_np_dtype(kind)), "w")
    x, y = (helper.make_tensor_value_info(name, kind, [4, 4]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def casts_put_in(path: Path, folder: Path) -> int:
    """How many Casts more the graph that onnxruntime saves has than the file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    before, after = (
        sum(node.op_type == "Cast" for node in onnx.load(each).graph.node) for each in (path, folder / "optimized.onnx")
    )
    return int(after - before)


def test_casts_that_fp16_needs_on_a_cpu_are_counted(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Erf", ["x"], ["a"], "a"),  # no fp16 kernel
        helper.make_node("Concat", ["a", "w"], ["b"], "b", axis=1),  # moves fp16 as it is
        helper.make_node("Split", ["b"], ["c", "d"], "c", axis=1, num_outputs=2),
        helper.make_node("Erf", ["c"], ["y"], "y"),
    ]
    path = saved(nodes, TensorProto.FLOAT16, tmp_path / "m.onnx")
    found = ort_profile.time_shares(path, {"x": np.ones((4, 4), np.float16)}, threads=1, runs=2)
    inserted = [node for node in found if node.inserted]
    assert {node.op_type for node in inserted} == {"Cast"}
    assert len(inserted) == casts_put_in(path, tmp_path) > 1


@pytest.mark.parametrize("name", ["mlp", "casting"])
def test_a_cast_of_the_file_is_not_an_inserted_one(name: str, exported: Exported, tmp_path: Path) -> None:
    fp16.convert(ModelFile(exported(name)), tmp_path / "h.onnx")  # with a Cast at the input and at the output
    nodes = profile(tmp_path / "h.onnx", name)
    assert "Cast" in {node.op_type for node in nodes}
    assert not any(node.inserted for node in nodes)


def test_operators_of_an_inlined_function_are_not_lost(exported: Exported, tmp_path: Path) -> None:
    fp16.convert(
        ModelFile(exported("mlp")), tmp_path / "h.onnx"
    )  # there is no fp16 Gelu: it runs as its parts, without names
    nodes = {node.op_type: node for node in profile(tmp_path / "h.onnx", "mlp")}
    assert nodes["Erf"].outputs != ()
    assert nodes["Erf"].inputs == nodes["Div"].outputs


def test_what_runs_inside_an_if_is_its_time(tmp_path: Path) -> None:
    out = helper.make_tensor_value_info("inner", TensorProto.FLOAT, [4, 4])
    branch = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["inner"], "product")], "branch", [], [out])
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["largest"], "largest", keepdims=0),
        helper.make_node("Cast", ["largest"], ["some"], "some", to=TensorProto.BOOL),
        helper.make_node("If", ["some"], ["y"], "choice", then_branch=branch, else_branch=branch),
    ]
    path = saved(nodes, TensorProto.FLOAT, tmp_path / "m.onnx")
    found = ort_profile.time_shares(path, {"x": np.ones((4, 4), np.float32)}, threads=1, runs=2)
    assert [node.name for node in found] == ["largest", "some", "choice"]


def test_without_onnx_only_the_connections_are_missing(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = static(exported, "residual", tmp_path)
    connected = profile(path, "residual")
    monkeypatch.setitem(sys.modules, "onnx", None)
    alone = profile(path, "residual")
    assert [(node.name, node.op_type, node.provider, node.precision) for node in alone] == [
        (node.name, node.op_type, node.provider, node.precision) for node in connected
    ]
    assert not any(node.inputs or node.constants or node.outputs for node in alone)
    assert ort_profile.unfused(alone) == []  # rather than to call every Q and DQ a wrong one


def test_a_profile_needs_onnxruntime_and_numpy_alone() -> None:
    code = "import sys, runtimes.ort_profile; sys.exit(bool({'onnx', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_settings_are_those_of_the_row(exported: Exported) -> None:
    feeds = MODELS["residual"].samples(2)
    basic = SessionSettings(graph_level="basic")
    nodes = ort_profile.time_shares(exported("residual"), feeds, threads=1, runs=1, settings=basic)
    assert "Relu" in {node.op_type for node in nodes}  # which the further levels merge into the convolutions


def test_nodes_that_would_run_side_by_side_are_timed_one_after_the_other(exported: Exported) -> None:
    """Side by side the times of two branches overlap: their sum is more than the profile's span."""
    parallel = SessionSettings(execution_mode="parallel")
    feeds = MODELS["attention"].samples(2)
    started: list[str] = []

    def noted(*arguments: Any, **more: Any) -> Any:
        session = start(*arguments, **more)
        started.append(session.get_session_options().execution_mode.name)
        return session

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ort_profile, "start", noted)
        ort_profile.time_shares(exported("attention"), feeds, threads=2, runs=1, settings=parallel)
    assert started == ["ORT_SEQUENTIAL"]
    for settings, said in ((parallel, True), (SessionSettings(), False)):
        found = bench_profile.of_file(
            exported("mlp"), MODELS["mlp"].samples(2), precision="fp32", provider="CPUExecutionProvider",
            threads=1, settings=settings, latency_ms=1e3,
        )  # fmt: skip
        assert found.advice.endswith(" its profile ran them one after the other.") == said


def test_a_run_that_fails_under_the_profiler_is_a_run_that_failed(tmp_path: Path) -> None:
    """A model that fails by chance, from a seed whose first number is not the one that fails."""
    nodes = [
        helper.make_node("RandomUniform", [], ["chance"], "chance", shape=[1], low=0.0, high=2.0, seed=1.0),
        helper.make_node("Cast", ["chance"], ["row"], "row", to=TensorProto.INT64),
        helper.make_node("Concat", ["row", "zero"], ["rows"], "rows", axis=0),
        helper.make_node("Gather", ["x", "rows"], ["y"], "y"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in "xy"]
    zero = numpy_helper.from_array(np.zeros(1, np.int64), "zero")
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [zero])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    with pytest.raises(RunFailed, match="out of data bounds"):
        ort_profile.time_shares(tmp_path / "m.onnx", {"x": np.ones((1, 4), np.float32)}, threads=1, runs=50)


def test_a_profile_of_no_run_is_refused(exported: Exported) -> None:
    with pytest.raises(ValueError, match="at least one run"):
        ort_profile.time_shares(exported("mlp"), MODELS["mlp"].samples(1), threads=1, runs=0)


def test_a_provider_that_is_not_there_is_refused(exported: Exported) -> None:
    missing = next(name for name in ("CUDAExecutionProvider", "CoreMLExecutionProvider") if name not in OFFERED)
    with pytest.raises(ProviderUnavailable):
        ort_profile.time_shares(exported("mlp"), MODELS["mlp"].samples(1), threads=1, runs=1, provider=missing)

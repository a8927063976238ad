"""Faults of the libraries below us that must not reach a user."""

import logging
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxconverter_common import float16
from torch import nn

from exporters import onnx_file, torch_onnx
from exporters.errors import BadOption, NotApplicable, NotExportable, WrongResult
from exporters.half import fp16
from exporters.model_file import ModelFile
from runtimes import registry
from runtimes.errors import NotLoadable, ProviderUnavailable
from runtimes.ort import OrtRuntime
from tests.contract.comparing import compared
from toolchain.conversion import export_proof

Exported = Callable[[str], Path]


def linear_model(path: Path, weights: dict[str, np.ndarray], nodes: list[onnx.NodeProto]) -> Path:
    """x (batch, 4) -> y (batch, 4) through ``nodes``."""
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx_file.check(model, step="test")
    onnx_file.save(model, path)
    return path


SAMPLES = {"x": np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)}


def test_fp16_of_a_graph_with_casts_loads(exported: Exported, tmp_path: Path) -> None:
    src = exported("casting")
    assert any(node.op_type == "Cast" for node in ModelFile(src).proto.graph.node)
    fp16.convert(ModelFile(src), tmp_path / "h.onnx")
    OrtRuntime(tmp_path / "h.onnx").open()


def _time_first(weight_type: type[np.generic]) -> onnx.ModelProto:
    """x (T, N, 4) -> y (N, T, 4): a transpose of what was computed, and a product."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(weight_type))
    values = [
        helper.make_tensor_value_info("x", kind, [6, "n", 4]),
        helper.make_tensor_value_info("y", kind, ["n", 6, 4]),
    ]
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axis"], ["u"], "u"),
        helper.make_node("Squeeze", ["u", "axis"], ["s"], "s"),
        helper.make_node("Transpose", ["s"], ["t"], "t", perm=[1, 0, 2]),
        helper.make_node("MatMul", ["t", "w"], ["y"], "p"),
    ]
    weights = {"w": np.random.default_rng(0).normal(size=(4, 4)).astype(weight_type), "axis": np.array([1])}
    graph = helper.make_graph(
        nodes, "g", values[:1], values[1:], [numpy_helper.from_array(*each[::-1]) for each in weights.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("keep_io_types", [True, False])
def test_fp16_of_a_product_behind_a_transpose_of_the_batch_opens(tmp_path: Path, keep_io_types: bool) -> None:
    onnx.save(_time_first(np.float32), tmp_path / "m.onnx")
    fp16.convert(ModelFile(tmp_path / "m.onnx"), tmp_path / "h.onnx", keep_io_types=keep_io_types)
    assert _opened(tmp_path / "h.onnx") == 0


def test_onnx_runtime_still_crashes_on_it(tmp_path: Path) -> None:
    """Why such a transpose stays in fp32: when this fails, let it go."""
    onnx.save(_time_first(np.float16), tmp_path / "h.onnx")
    assert _opened(tmp_path / "h.onnx") == -signal.SIGSEGV


def _opened(path: Path) -> int:
    script = f"import onnxruntime; onnxruntime.InferenceSession({str(path)!r}, providers=['CPUExecutionProvider'])"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode


def test_the_library_still_breaks_such_a_graph(exported: Exported, tmp_path: Path) -> None:
    """Why exporters/half_graph.py is there: when this fails, see whether onnxconverter-common will do again."""
    half = float16.convert_float_to_float16(ModelFile(exported("casting")).proto, keep_io_types=True)
    onnx_file.save(half, tmp_path / "h.onnx")
    with pytest.raises(NotLoadable):
        OrtRuntime(tmp_path / "h.onnx").open()


@pytest.mark.parametrize("largest", [2e4, 65504.0])
def test_fp16_keeps_weights_that_half_precision_holds(largest: float, tmp_path: Path) -> None:
    weight = np.eye(4) * largest
    src = linear_model(tmp_path / "m.onnx", {"w": weight}, [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")])
    made = fp16.convert(ModelFile(src), tmp_path / "h.onnx")
    assert made.notes == ()
    stored = numpy_helper.to_array(ModelFile(tmp_path / "h.onnx").proto.graph.initializer[0])
    assert stored.dtype == np.float16
    assert stored.max() == largest


def test_fp16_keeps_a_node_in_fp32_that_half_precision_cannot_hold(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "big"], ["h"], name="large"),
        helper.make_node("MatMul", ["h", "small"], ["y"], name="scaled"),
    ]
    src = linear_model(tmp_path / "m.onnx", {"big": np.eye(4) * 1e6, "small": np.eye(4) * 1e-3}, nodes)
    made = fp16.convert(ModelFile(src), tmp_path / "h.onnx")
    assert len(made.notes) == 1
    assert "large stays in fp32" in made.notes[0]
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in ModelFile(made.path).proto.graph.initializer}
    assert stored["big"].dtype == np.float32
    assert stored["big"].max() == 1e6


def test_fp16_does_not_let_a_tiny_constant_vanish(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "eps"], ["h"], name="guard"),
        helper.make_node("MatMul", ["h", "w"], ["y"], name="m"),
    ]
    src = linear_model(tmp_path / "m.onnx", {"eps": np.full((1,), 1e-12), "w": np.eye(4)}, nodes)
    made = fp16.convert(ModelFile(src), tmp_path / "h.onnx")
    assert "guard stays in fp32" in made.notes[0]
    assert compared(made.path, src, SAMPLES, precision="fp16").passed


def test_fp16_separates_a_weight_that_fp32_and_fp16_nodes_share(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="first"),
        helper.make_node("MatMul", ["h", "w"], ["y"], name="second"),
    ]
    src = linear_model(tmp_path / "m.onnx", {"w": np.eye(4) * 2}, nodes)
    fp16.convert(ModelFile(src), tmp_path / "h.onnx", keep_fp32=["second"])
    assert compared(tmp_path / "h.onnx", src, SAMPLES, precision="fp16").passed


def test_fp16_refuses_a_model_whose_weights_all_overflow(tmp_path: Path) -> None:
    src = linear_model(
        tmp_path / "m.onnx", {"w": np.eye(4) * 1e9}, [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")]
    )
    with pytest.raises(NotApplicable, match="No weight"):
        fp16.convert(ModelFile(src), tmp_path / "h.onnx")
    assert not (tmp_path / "h.onnx").exists()


@pytest.mark.parametrize("opset", [7, 17, 27, 99])
def test_an_opset_that_would_be_changed_in_silence_is_refused(opset: int, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match=str(opset)):
        torch_onnx.export(
            nn.Linear(2, 2),
            tmp_path / "a.onnx",
            example_inputs={"x": torch.zeros(2, 2)},
            output_names=["y"],
            opset=opset,
        )


def test_an_export_prints_and_logs_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        torch_onnx.export(
            nn.Linear(2, 2), tmp_path / "a.onnx", example_inputs={"x": torch.zeros(2, 2)}, output_names=["y"]
        )
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


class FixedBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(int(x.shape[0]) if x.shape[0] == 2 else 2, -1)


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x - 1


@pytest.mark.parametrize("module", [FixedBatch(), Branching()], ids=["fixed batch", "branches on values"])
def test_what_cannot_be_exported_says_why_without_colours(module: nn.Module, tmp_path: Path) -> None:
    with pytest.raises((NotExportable, WrongResult)) as caught:
        torch_onnx.export(module, tmp_path / "a.onnx", example_inputs={"x": torch.ones(2, 3)}, output_names=["y"])
    assert "\x1b" not in caught.value.what
    assert "\n" not in caught.value.what
    assert list(tmp_path.iterdir()) == []


def test_a_net_that_torch_quantized_is_refused_with_a_reason(tmp_path: Path) -> None:
    """torch's own dynamic-int8 modules have no ONNX form: quantize after the export."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and people have such models
        quantize: Callable[..., nn.Module] = torch.ao.quantization.quantize_dynamic
        module = quantize(nn.Sequential(nn.Linear(4, 4)), {nn.Linear})
    with pytest.raises(NotExportable) as caught:
        torch_onnx.export(module, tmp_path / "m.onnx", example_inputs={"x": torch.zeros(2, 4)}, output_names=["y"])
    assert "nnx quantize" in f"{caught.value.what} {caught.value.do}"
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_script_module_is_refused_with_a_reason(tmp_path: Path) -> None:
    scripted = torch.jit.script(nn.Linear(2, 2))
    with pytest.raises(NotExportable, match="ScriptModule"):
        torch_onnx.export(scripted, tmp_path / "a.onnx", example_inputs={"x": torch.zeros(2, 2)}, output_names=["y"])


def test_a_recurrent_net_keeps_its_dynamic_batch(tmp_path: Path) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRU(4, 8, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            last: torch.Tensor = self.cell(x)[0][:, -1]
            return last

    module = Recurrent()
    samples = {"x": np.random.default_rng(0).normal(size=(9, 5, 4)).astype(np.float32)}
    torch_onnx.export(
        module, tmp_path / "a.onnx", example_inputs={"x": torch.from_numpy(samples["x"][:2])}, output_names=["y"]
    )
    assert export_proof.check_export(tmp_path / "a.onnx", module, samples).passed


def test_no_session_falls_back_to_the_cpu(exported: Exported) -> None:
    if registry.available("ort", registry.PROVIDERS["cuda"]):
        pytest.skip("CUDA is here")
    with pytest.raises(ProviderUnavailable, match="has no CUDAExecutionProvider"):
        OrtRuntime(exported("mlp"), provider="CUDAExecutionProvider").open()

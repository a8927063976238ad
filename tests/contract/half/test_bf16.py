"""bf16: half the bytes, fp32's arithmetic and interface."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper

from exporters import onnx_file, provenance
from exporters.atomic_file import sha256_of
from exporters.errors import BadModelFile, BadOption, NotApplicable
from exporters.half import bf16, fp16
from exporters.model_file import ModelFile
from runtimes.ort import OrtRuntime
from tests.contract.comparing import compared
from tests.contract.tiny_models import MODELS

Exported = Callable[[str], Path]


def product(path: Path, weight: np.ndarray, *, opset: int = 20, listed: bool = False) -> Path:
    """x (batch, K) times ``weight`` (K, N); ``listed`` names the weight among the inputs, as old files do."""
    value = helper.make_tensor_value_info
    inputs = [value("x", TensorProto.FLOAT, ["batch", weight.shape[0]])]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "product",
        inputs + ([value("w", TensorProto.FLOAT, list(weight.shape))] if listed else []),
        [value("y", TensorProto.FLOAT, ["batch", weight.shape[1]])],
        [numpy_helper.from_array(weight.astype(np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    onnx_file.save(model, path)
    return path


def weights_of(path: Path) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in ModelFile(path).proto.graph.initializer}


LARGE = np.random.default_rng(0).normal(size=(256, 128))


@pytest.mark.parametrize("name", MODELS)
def test_bf16_passes_parity_and_records_where_it_comes_from(name: str, exported: Exported, tmp_path: Path) -> None:
    src, dst = exported(name), tmp_path / "b.onnx"
    before = sha256_of(src)
    made = bf16.convert(ModelFile(src), dst)
    assert (made.path, made.precision, made.sha256, made.parent_sha256) == (dst, "bf16", sha256_of(dst), before)
    assert made.notes == (bf16.NOTE,)
    assert sha256_of(src) == before
    assert onnx_file.precision_of(ModelFile(dst).proto) == "bf16"
    assert provenance.read(ModelFile(dst).proto)["precision"] == "bf16"
    found = compared(dst, src, MODELS[name].samples(64, seed=2), precision="bf16")
    assert found.sqnr_db is not None
    assert found.sqnr_db > 35
    assert bf16.convert(ModelFile(src), tmp_path / "again.onnx").sha256 == made.sha256


def test_bf16_halves_the_file(tmp_path: Path) -> None:
    src = product(tmp_path / "m.onnx", LARGE)
    assert bf16.convert(ModelFile(src), tmp_path / "b.onnx").size_bytes < 0.51 * src.stat().st_size


def test_the_interface_stays_fp32_and_old_style_weights_do_not_become_inputs(tmp_path: Path) -> None:
    made = bf16.convert(ModelFile(product(tmp_path / "m.onnx", LARGE, listed=True)), tmp_path / "b.onnx")
    runtime = OrtRuntime(made.path)
    runtime.open()
    assert [(spec.name, spec.dtype) for spec in (*runtime.inputs, *runtime.outputs)] == [
        ("x", "float32"),
        ("y", "float32"),
    ]


def test_weights_of_kept_nodes_and_small_ones_stay_fp32(exported: Exported, tmp_path: Path) -> None:
    first = next(node for node in ModelFile(exported("mlp")).proto.graph.node if node.op_type == "Gemm")
    stored = weights_of(bf16.convert(ModelFile(exported("mlp")), tmp_path / "b.onnx", keep_fp32=[first.name]).path)
    assert stored[first.input[1]] == TensorProto.FLOAT
    assert (
        sum(kind == TensorProto.BFLOAT16 for kind in stored.values()) == 2
    )  # 32 x 16 and 16 x 5; the biases are small
    with pytest.raises(BadOption, match="nobody"):
        bf16.convert(ModelFile(exported("mlp")), tmp_path / "c.onnx", keep_fp32=["nobody"])


def test_a_weight_that_would_round_to_infinity_stays_fp32(tmp_path: Path) -> None:
    huge = LARGE.copy()
    huge[0, 0] = np.finfo(np.float32).max
    with pytest.raises(NotApplicable):
        bf16.convert(ModelFile(product(tmp_path / "m.onnx", huge)), tmp_path / "b.onnx")
    huge[0, 0] = np.inf
    with pytest.raises(BadModelFile, match="NaN or infinite"):
        bf16.convert(ModelFile(product(tmp_path / "m.onnx", huge)), tmp_path / "b.onnx")


def test_what_cannot_become_bf16_says_why_and_leaves_no_file(exported: Exported, tmp_path: Path) -> None:
    dst = tmp_path / "b.onnx"
    with pytest.raises(NotApplicable, match="64"):
        bf16.convert(ModelFile(product(tmp_path / "small.onnx", np.ones((2, 2)))), dst)
    old = bf16.convert(ModelFile(product(tmp_path / "old.onnx", LARGE, opset=12)), tmp_path / "raised.onnx")
    assert old.opset == 13
    bf16.convert(ModelFile(exported("mlp")), tmp_path / "once.onnx")
    with pytest.raises(BadModelFile, match="bf16 already"):
        bf16.convert(ModelFile(tmp_path / "once.onnx"), dst)
    with pytest.raises(BadModelFile, match="bf16 already"):
        fp16.convert(ModelFile(tmp_path / "once.onnx"), dst)
    assert not dst.exists()


@given(arrays.arrays(np.float32, st.integers(1, 40), elements=st.floats(width=32)))
def test_rounding_is_pytorchs(values: np.ndarray) -> None:
    theirs = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
    ours = (bf16.rounded(values).astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(ours, theirs)


def test_the_cpu_provider_still_has_no_bfloat16_product(tmp_path: Path) -> None:
    """The reason for the casts: when this fails, arithmetic in bf16 has become possible."""
    from runtimes.errors import NotLoadable

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "x"], ["y"])],
        "bf16",
        [value("x", TensorProto.BFLOAT16, [4, 4])],
        [value("y", TensorProto.BFLOAT16, [4, 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(NotLoadable, match="MatMul"):
        OrtRuntime(tmp_path / "m.onnx").open()

"""What every converter promises, on every tiny model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from exporters import onnx_file, provenance, torch_onnx
from exporters.artifact import Artifact
from exporters.atomic_file import sha256_of
from exporters.errors import BadModelFile
from exporters.half import fp16
from exporters.int8 import dynamic as int8_dynamic
from exporters.int8 import static as int8_static
from exporters.int8.targets import format_for
from exporters.model_file import ModelFile
from tests.contract.comparing import compared, outputs_of
from tests.contract.tiny_models import MODELS
from toolchain import machine
from toolchain.conversion import export_proof

INT8 = format_for(architecture=machine.describe().architecture, isa=machine.describe().isa)
CONVERTERS: dict[str, Callable[[Path, Path, str], Artifact]] = {
    "fp16": lambda src, dst, name: fp16.convert(ModelFile(src), dst),
    "int8-dynamic": lambda src, dst, name: int8_dynamic.convert(ModelFile(src), dst, int8=INT8),
    "int8-static": lambda src, dst, name: int8_static.convert(
        ModelFile(src), dst, samples=MODELS[name].samples(64, seed=1), int8=INT8
    ),
}
models = pytest.mark.parametrize("name", MODELS)
converters = pytest.mark.parametrize("precision", CONVERTERS)
Exported = Callable[[str], Path]


@models
def test_an_export_agrees_with_pytorch_at_every_batch(name: str, exported: Exported) -> None:
    tiny = MODELS[name]
    assert export_proof.check_export(exported(name), tiny.module(), tiny.samples()).passed


@models
def test_an_export_is_the_same_bytes_again_and_names_no_folder(name: str, exported: Exported, tmp_path: Path) -> None:
    examples = {key: torch.from_numpy(array) for key, array in MODELS[name].samples(2).items()}
    torch_onnx.export(MODELS[name].module(), tmp_path / "b.onnx", example_inputs=examples, output_names=["scores"])
    assert sha256_of(tmp_path / "b.onnx") == sha256_of(exported(name))
    assert str(Path(__file__).parent).encode() not in exported(name).read_bytes()


@pytest.mark.parametrize("opset", torch_onnx.OPSETS)
def test_every_opset_offered_is_honoured(opset: int, tmp_path: Path) -> None:
    examples = {key: torch.from_numpy(array) for key, array in MODELS["attention"].samples(2).items()}
    module = MODELS["attention"].module()
    made = torch_onnx.export(module, tmp_path / "a.onnx", example_inputs=examples, output_names=["scores"], opset=opset)
    assert made.opset == opset == onnx_file.opset_of(ModelFile(tmp_path / "a.onnx").proto)
    assert export_proof.check_export(tmp_path / "a.onnx", module, MODELS["attention"].samples()).passed


@models
@converters
def test_a_conversion_is_close_records_its_parent_and_keeps_its_input(
    precision: str, name: str, exported: Exported, tmp_path: Path
) -> None:
    src, dst = exported(name), tmp_path / "made.onnx"
    before = sha256_of(src)
    made = CONVERTERS[precision](src, dst, name)
    assert sha256_of(src) == before
    assert (made.path, made.precision, made.sha256) == (dst, precision, sha256_of(dst))
    assert made.size_bytes == dst.stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["made.onnx"]
    facts = provenance.read(ModelFile(dst).proto)
    assert facts["parent_sha256"] == made.parent_sha256 == before
    assert facts["precision"] == precision
    assert onnx_file.interface_of(ModelFile(dst).proto) == (("x",), ("scores",))
    found = compared(dst, src, MODELS[name].samples(64, seed=2), precision=precision)
    assert found.passed
    assert found.sqnr_db is not None
    assert found.sqnr_db > (50 if precision == "fp16" else 20)


@models
@converters
def test_a_conversion_gives_the_same_bytes_again(precision: str, name: str, exported: Exported, tmp_path: Path) -> None:
    first = CONVERTERS[precision](exported(name), tmp_path / "a.onnx", name)
    second = CONVERTERS[precision](exported(name), tmp_path / "b.onnx", name)
    assert first.sha256 == second.sha256


@converters
def test_a_converted_model_is_not_converted_again(precision: str, exported: Exported, tmp_path: Path) -> None:
    CONVERTERS[precision](exported("mlp"), tmp_path / "once.onnx", "mlp")
    with pytest.raises(BadModelFile):
        CONVERTERS[precision](tmp_path / "once.onnx", tmp_path / "twice.onnx", "mlp")
    assert not (tmp_path / "twice.onnx").exists()


def test_dynamic_int8_leaves_convolutions_alone(exported: Exported, tmp_path: Path) -> None:
    int8_dynamic.convert(ModelFile(exported("residual")), tmp_path / "d.onnx", int8=INT8)
    kinds = {node.op_type for node in ModelFile(tmp_path / "d.onnx").proto.graph.node}
    assert "Conv" in kinds
    assert "ConvInteger" not in kinds


def test_static_int8_has_the_format_asked_for(exported: Exported, tmp_path: Path) -> None:
    import onnx

    int8 = format_for(architecture="x86_64", isa={"avx512_vnni"})
    int8_static.convert(
        ModelFile(exported("residual")), tmp_path / "s.onnx", samples=MODELS["residual"].samples(8), int8=int8
    )
    model = ModelFile(tmp_path / "s.onnx").proto
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    made_by = {output: node for node in model.graph.node for output in node.output}
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    data, weight = (made_by[name] for name in convolution.input[:2])
    assert data.op_type == weight.op_type == "DequantizeLinear"
    assert tensors[data.input[2]].data_type == onnx.TensorProto.UINT8
    assert tensors[weight.input[0]].data_type == onnx.TensorProto.INT8
    assert list(tensors[weight.input[1]].dims) == [16]


@pytest.mark.parametrize("keep_io_types", [True, False])
def test_fp16_inputs_and_outputs_are_what_was_asked(keep_io_types: bool, exported: Exported, tmp_path: Path) -> None:
    fp16.convert(ModelFile(exported("mlp")), tmp_path / "h.onnx", keep_io_types=keep_io_types)
    result = outputs_of(tmp_path / "h.onnx", MODELS["mlp"].samples(4))["scores"]
    assert result.dtype == (np.float32 if keep_io_types else np.float16)

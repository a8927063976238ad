"""Fewer nodes: by a library, proven, and refused where the library is wrong."""

import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from benchmarks.hard import base_models
from exporters import provenance, simplify
from exporters.edits import Edits
from exporters.model_file import ModelFile
from toolchain.conversion import editing
from toolchain.conversion.given import Data
from toolchain.conversion.proof import Proven
from toolchain.progress import SILENT

BEFORE = 4


def padded(path: Path, opset: int = 17) -> ModelFile:
    """A constant that is computed, an Identity and a Transpose there and back."""
    nodes = [
        helper.make_node("Add", ["one", "one"], ["two"]),
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Mul", ["same", "two"], ["h"]),
        helper.make_node("Exp", ["h"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "y")]
    graph = helper.make_graph(
        nodes, "g", values[:1], values[1:], [numpy_helper.from_array(np.ones(3, np.float32), "one")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, {"author": "somebody"})
    onnx.save(model, path)
    return ModelFile(path)


def made(model: ModelFile) -> Proven:
    dst = model.path.with_name("out.onnx")
    return editing.edit(model, dst, Edits(simplify=True), given=Data().source(SILENT))


@pytest.mark.parametrize("opset", [7, 17, 22])
def test_nodes_go_and_the_rest_stays(opset: int, tmp_path: Path) -> None:
    done = made(padded(tmp_path / "m.onnx", opset))
    model = onnx.load(done.artifact.path)
    assert [node.op_type for node in model.graph.node] == ["Mul", "Exp"]
    assert done.artifact.notes[-1].startswith(f"{BEFORE} nodes became 2, by onnx")
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert (model.opset_import[0].version, model.ir_version) == (opset, 8)
    assert "author" in {entry.key for entry in model.metadata_props}
    library, version = provenance.read(model)["simplify"].split()
    assert library in simplify._LIBRARIES
    assert version == importlib.metadata.version(library)


@pytest.mark.parametrize("name", [name for name in vars(base_models) if name in (
    "_convolutions", "_products", "_attention", "_recurrent", "_branches", "_upsampling")])  # fmt: skip
def test_other_peoples_models(name: str, tmp_path: Path) -> None:
    onnx.save(vars(base_models)[name]().model, tmp_path / "m.onnx")
    assert made(ModelFile(tmp_path / "m.onnx")).parity.passed


class Heads(torch.nn.Module):
    """Two heads of attention as people write it, with the lengths of its axes."""

    def forward(self, x: torch.Tensor) -> Any:
        batch, time, width = x.shape
        heads = x.reshape(batch, time, 2, width // 2).transpose(1, 2)
        mixed = torch.softmax(heads @ heads.transpose(2, 3), -1) @ heads
        return mixed.transpose(1, 2).reshape(batch, time, width)


def test_shapes_that_an_older_exporter_computes_go(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Heads(), (torch.randn(2, 6, 16),), str(tmp_path / "m.onnx"), dynamo=False,
            input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
        )  # fmt: skip
    model = ModelFile(tmp_path / "m.onnx")
    done = made(model)
    left = simplify.nodes(onnx.load(done.artifact.path))
    share = 0.4 if importlib.util.find_spec("onnxslim") else 0.7
    assert left < share * simplify.nodes(model.proto)


def means(path: Path) -> ModelFile:
    """The mean over an axis that may have any length."""
    nodes = [
        helper.make_node("ReduceSum", ["x", "one"], ["sum"], keepdims=0),
        helper.make_node("Shape", ["x"], ["shape"], start=1, end=2),
        helper.make_node("Cast", ["shape"], ["length"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["sum", "length"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "time", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(np.array([1]), "one")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return ModelFile(path)


@pytest.mark.parametrize(("length", "real"), [(16, False), (40, True)])
def test_what_is_right_at_one_length_only_is_not_taken(
    length: int, real: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bakes(model: onnx.ModelProto) -> onnx.ModelProto:
        """As if the axis were always as long as the samples."""
        graph = model.graph
        kept = [node for node in graph.node if node.op_type not in ("Shape", "Cast")]
        del graph.node[:]
        graph.node.extend(kept)
        graph.initializer.append(numpy_helper.from_array(np.array([length], np.float32), "length"))
        return model

    monkeypatch.setattr(simplify, "_LIBRARIES", {"bakes": bakes})
    np.savez(tmp_path / "real.npz", x=np.random.default_rng(0).normal(size=(4, length, 3)).astype(np.float32))
    data = Data(evaluation=str(tmp_path / "real.npz") if real else None)
    model, dst = means(tmp_path / "m.onnx"), tmp_path / "out.onnx"
    done = editing.edit(model, dst, Edits(simplify=True), given=data.source(SILENT))
    assert done.artifact.notes[-1] == "Its 4 nodes stay: no simpler form gives the same."
    assert done.parity.passed


def test_what_is_wrong_or_raises_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: onnx.ModelProto) -> onnx.ModelProto:
        nodes = [node for node in model.graph.node if node.op_type in ("Add", "Mul")]
        nodes[-1].input[0], nodes[-1].output[0] = "x", "y"
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        return model

    def raises(model: onnx.ModelProto) -> onnx.ModelProto:
        raise ValueError(model)

    libraries: dict[str, Callable[[Any], Any]] = {"wrong": wrong, "raises": raises}
    monkeypatch.setattr(simplify, "_LIBRARIES", libraries)
    done = made(padded(tmp_path / "m.onnx"))
    assert done.artifact.notes[-1] == f"Its {BEFORE} nodes stay: no simpler form gives the same."
    model = onnx.load(done.artifact.path)
    assert len(model.graph.node) == BEFORE
    assert "simplify" not in provenance.read(model)

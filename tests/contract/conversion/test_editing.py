"""Models changed in their form: the result takes and gives what was asked for, and gives what the original gave."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import external_data
from exporters.edits import Edits
from exporters.errors import BadOption, NotConvertible
from exporters.external_data import Keeping
from exporters.model_file import ModelFile
from toolchain.conversion import editing
from toolchain.conversion.given import Data
from toolchain.conversion.proof import Proven
from toolchain.errors import BadUsage
from toolchain.progress import SILENT

RANDOM = np.random.default_rng(0)


def weight(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(RANDOM.normal(size=shape).astype(np.float32), name)


def value(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def net(path: Path) -> ModelFile:
    """Two inputs, a branch that is a graph of its own and reads an outer tensor, two outputs."""
    inner = [helper.make_graph([helper.make_node(kind, ["hidden"], [kind])], kind, [], [value(kind, "n", 8)])
             for kind in ("Neg", "Abs")]  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["product"], name="first", doc_string="made at /home/somebody"),
        helper.make_node("Add", ["product", "b1"], ["hidden"], name="second"),
        helper.make_node("If", ["flag"], ["chosen"], name="third", then_branch=inner[0], else_branch=inner[1]),
        helper.make_node("Mul", ["chosen", "scale"], ["scaled"], name="fourth"),
        helper.make_node("MatMul", ["scaled", "w2"], ["scores"], name="fifth"),
        helper.make_node("ReduceMean", ["hidden"], ["mean"], name="sixth", axes=[1], keepdims=0),
    ]
    weights = [weight("w1", 4, 8), weight("b1", 8), weight("w2", 8, 3), numpy_helper.from_array(np.array(True), "flag")]
    graph = helper.make_graph(
        nodes, "g", [value("x", "n", 4), value("scale", "n", 8)], [value("scores", "n", 3), value("mean", "n")], weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"author": "somebody", "nnx.precision": "fp32"})
    onnx.save(model, path)
    return ModelFile(path)


def edited(model: ModelFile, dst: Path, **wanted: Any) -> Proven:
    return editing.edit(model, dst, Edits(**wanted), given=Data().source(SILENT))


def interface(path: Path) -> dict[str, list[Any]]:
    graph = onnx.load(path).graph
    return {
        each.name: [axis.dim_param or axis.dim_value for axis in each.type.tensor_type.shape.dim]
        for each in (*graph.input, *graph.output)
    }


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        ({"fix": {"n": 2}}, {"x": [2, 4], "scale": [2, 8], "scores": [2, 3], "mean": [2]}),
        ({"fix": {"x:0": 2}}, {"x": [2, 4], "scale": [2, 8], "scores": [2, 3], "mean": [2]}),
        ({"rename": {"x": "image", "scores": "logits"}},
         {"image": ["n", 4], "scale": ["n", 8], "logits": ["n", 3], "mean": ["n"]}),
        ({"rename": {"x": "scale", "scale": "x"}},
         {"scale": ["n", 4], "x": ["n", 8], "scores": ["n", 3], "mean": ["n"]}),
        ({"end": ("hidden",)}, {"x": ["n", 4], "hidden": ["n", 8]}),
        ({"end": ("mean",)}, {"x": ["n", 4], "mean": ["n"]}),
        ({"start": ("hidden",)}, {"scale": ["n", 8], "hidden": ["n", 8], "scores": ["n", 3], "mean": ["n"]}),
        ({"start": ("chosen",), "end": ("scores",)}, {"scale": ["n", 8], "chosen": ["n", 8], "scores": ["n", 3]}),
        ({"start": ("x",), "end": ("product",), "fix": {"n": 5}, "rename": {"product": "y"}},
         {"x": [5, 4], "y": [5, 8]}),
        ({"strip": True}, {"x": ["n", 4], "scale": ["n", 8], "scores": ["n", 3], "mean": ["n"]}),
    ],
)  # fmt: skip
def test_the_interface_is_as_asked_and_the_values_are_the_originals(wanted: Any, taken: Any, tmp_path: Path) -> None:
    made = edited(net(tmp_path / "m.onnx"), tmp_path / "out.onnx", **wanted)
    assert made.parity.passed
    assert interface(tmp_path / "out.onnx") == taken


def test_a_model_cut_in_two_is_the_model(tmp_path: Path) -> None:
    model = net(tmp_path / "m.onnx")
    edited(model, tmp_path / "head.onnx", end=("hidden",))
    edited(model, tmp_path / "tail.onnx", start=("hidden",), end=("scores",))
    head, tail, whole = (
        onnxruntime.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"])
        for name in ("head.onnx", "tail.onnx", "m.onnx")
    )
    x, scale = (RANDOM.normal(size=(3, width)).astype(np.float32) for width in (4, 8))
    (hidden,) = head.run(None, {"x": x})
    assert np.array_equal(
        tail.run(None, {"hidden": hidden, "scale": scale})[0], whole.run(["scores"], {"x": x, "scale": scale})[0]
    )


def test_what_is_stripped(tmp_path: Path) -> None:
    edited(net(tmp_path / "m.onnx"), tmp_path / "out.onnx", strip=True)
    content = (tmp_path / "out.onnx").read_bytes()
    assert b"somebody" not in content
    assert b"nnx.precision" in content


@pytest.mark.parametrize("opset", [16, 18, 21])
def test_the_operator_set_is_raised_and_lowered(opset: int, tmp_path: Path) -> None:
    edited(net(tmp_path / "m.onnx"), tmp_path / "out.onnx", opset=opset)
    assert ModelFile(tmp_path / "out.onnx").opset == opset


@pytest.mark.parametrize("wanted", [{"opset": 21}, {"strip": True}])
def test_operators_of_the_domain_by_its_long_name(wanted: Any, tmp_path: Path) -> None:
    """ONNX Runtime takes ``ai.onnx`` in the main graph, onnx's checker and converter do not."""
    proto = onnx.load(net(tmp_path / "m.onnx").path)
    for node in proto.graph.node:
        node.domain = "ai.onnx"
    proto.opset_import[0].domain = "ai.onnx"
    onnx.save(proto, tmp_path / "long.onnx")
    made = edited(ModelFile(tmp_path / "long.onnx"), tmp_path / "out.onnx", **wanted)
    assert made.parity.passed
    assert {entry.domain for entry in onnx.load(tmp_path / "out.onnx").opset_import} == {""}


def test_the_ir_version_is_what_was_asked(tmp_path: Path) -> None:
    for version in (8, 9, 11):
        edited(net(tmp_path / "m.onnx"), tmp_path / "out.onnx", ir_version=version)
        assert onnx.load(tmp_path / "out.onnx").ir_version == version


def test_weights_are_moved_out_and_in(tmp_path: Path) -> None:
    model = net(tmp_path / "m.onnx")
    large = numpy_helper.from_array(RANDOM.normal(size=(8, 300)).astype(np.float32), "w2")
    whole = onnx.load(model.path)
    whole.graph.initializer[2].CopyFrom(large)
    whole.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 300
    onnx.save(whole, model.path)
    with external_data.keeping(Keeping.ALWAYS):
        edited(ModelFile(model.path), tmp_path / "apart.onnx")
    assert ModelFile(tmp_path / "apart.onnx").external_files == (tmp_path / "apart.onnx.data",)
    with external_data.keeping(Keeping.NEVER):
        edited(ModelFile(tmp_path / "apart.onnx"), tmp_path / "whole.onnx")
    assert not ModelFile(tmp_path / "whole.onnx").external_files
    assert sorted(path.name for path in tmp_path.iterdir()) == ["apart.onnx", "apart.onnx.data", "m.onnx", "whole.onnx"]


def test_one_file_that_would_be_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_data, "MAX_BYTES", 100)
    with pytest.raises(BadOption, match="one file holds"), external_data.keeping(Keeping.NEVER):
        edited(net(tmp_path / "m.onnx"), tmp_path / "out.onnx", strip=True)


@pytest.mark.parametrize(
    ("wanted", "what"),
    [
        ({"fix": {"n": 2, "x:0": 1}}, "two lengths"),
        ({"start": ("w1",)}, "No node makes 'w1'"),
        ({"ir_version": 7}, "IR 7 does not have opset 17, which came with IR 8"),
        ({"ir_version": 99}, "There is no IR 99"),
        ({"fix": {"batch": 1}}, "No input has an open axis 'batch'"),
        ({"fix": {"x:2": 1}}, "'x' has 2 axes"),
        ({"fix": {"x:1": 3}}, "has the length 4 already"),
        ({"rename": {"hidden": "h"}}, "no input or output 'hidden'"),
        ({"rename": {"x": "hidden"}}, "'hidden' is in use"),
        ({"rename": {"x": "same", "scale": "same"}}, "one name"),
        ({"end": ("nowhere",)}, "No node makes 'nowhere'"),
        ({"end": ("w1",)}, "No node makes 'w1'"),
        ({"start": ("scores",), "end": ("mean",)}, "does not lead to mean"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(wanted: Any, what: str, tmp_path: Path) -> None:
    model = net(tmp_path / "m.onnx")
    with pytest.raises(BadOption) as caught:
        edited(model, tmp_path / "out.onnx", **wanted)
    assert what in caught.value.what
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_the_input_file_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(BadUsage, match="input file"):
        edited(net(tmp_path / "m.onnx"), tmp_path / "m.onnx", strip=True)


def test_an_operator_set_without_what_is_in_the_model_is_a_clear_no(tmp_path: Path) -> None:
    layer = helper.make_node("LayerNormalization", ["x", "s"], ["y"])
    graph = helper.make_graph([layer], "g", [value("x", "n", 4)], [value("y", "n", 4)], [weight("s", 4)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    with pytest.raises(NotConvertible, match="could not be lowered to 13"):
        edited(ModelFile(tmp_path / "m.onnx"), tmp_path / "out.onnx", opset=13)


def test_an_unnamed_axis_of_an_output_is_fixed_with_its_inputs(tmp_path: Path) -> None:
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in ("x", "y")]
    graph = helper.make_graph([product], "g", values[:1], values[1:], [weight("w", 4, 4)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    edited(ModelFile(tmp_path / "m.onnx"), tmp_path / "out.onnx", fix={"x:0": 3})
    assert interface(tmp_path / "out.onnx") == {"x": [3, 4], "y": [3, 4]}


def test_an_inner_tensor_of_the_same_name_is_left_alone(tmp_path: Path) -> None:
    """A branch may have a tensor of its own with an outer one's name."""
    inner = [
        helper.make_graph([helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Abs", ["y"], [kind])], kind, [],
                          [value(kind, "n", 4)])
        for kind in ("a", "b")
    ]  # fmt: skip
    nodes = [helper.make_node("If", ["flag"], ["h"], then_branch=inner[0], else_branch=inner[1]),
             helper.make_node("Relu", ["h"], ["y"])]  # fmt: skip
    flag = numpy_helper.from_array(np.array(True), "flag")
    graph = helper.make_graph(nodes, "g", [value("x", "n", 4)], [value("y", "n", 4)], [flag])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    edited(ModelFile(tmp_path / "m.onnx"), tmp_path / "out.onnx", rename={"y": "out", "x": "in"})
    assert interface(tmp_path / "out.onnx") == {"in": ["n", 4], "out": ["n", 4]}

"""Every fault at once: each kind planted, alone and together with others."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.errors import BadModelFile
from tests.unit.inspection import tiny_graphs
from tests.unit.inspection.tiny_graphs import convolutional, drawn, quantized
from toolchain.inspection.check import check, lines
from toolchain.inspection.faults import Verdict


def of(model: onnx.ModelProto, tmp_path: Path) -> Verdict:
    onnx.save(model, tmp_path / "m.onnx")
    return check(tmp_path / "m.onnx")


def kinds(verdict: Verdict) -> set[tuple[str, str]]:
    return {(each.kind, each.where) for each in verdict.faults if each.severity == "fault"}


def test_a_sound_model_has_no_fault(tmp_path: Path) -> None:
    verdict = of(convolutional(), tmp_path)
    assert verdict.faults == ()
    assert verdict.sound
    assert lines(verdict)[-1].endswith("m.onnx: no faults, no warnings.")


def _newer_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 99


def _newer_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def _reads_nothing(model: onnx.ModelProto) -> None:
    model.graph.node[1].input[0] = "gone"


def _out_of_order(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([nodes[1], nodes[0], *nodes[2:]])


def _wrong_shape(model: onnx.ModelProto) -> None:
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(drawn(16, 7, 3, 3), "body.weight"))


def _unknown_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("nonsense", 3))


def _unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type, model.graph.node[1].domain = "Rectify", "my.own"
    model.opset_import.append(helper.make_opsetid("my.own", 1))


def _nan(model: onnx.ModelProto) -> None:
    values = drawn(16, 8, 3, 3)
    values[0, 0, 0, 0] = np.nan
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(values, "body.weight"))


def _damaged(model: onnx.ModelProto) -> None:
    model.graph.initializer[2].raw_data = model.graph.initializer[2].raw_data[:-4]


def _missing_data(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[2]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="gone.bin")


PLANTED: dict[str, tuple[Callable[[onnx.ModelProto], None], tuple[str, str]]] = {
    "IR": (_newer_ir, ("version", "")),
    "opset": (_newer_opset, ("version", "")),
    "reads nothing": (_reads_nothing, ("graph", "act")),
    "out of order": (_out_of_order, ("graph", "act")),
    "shape": (_wrong_shape, ("shape", "body")),
    "attribute": (_unknown_attribute, ("operator", "stem")),
    "target": (_unknown_operator, ("target", "act")),
    "NaN": (_nan, ("weights", "body.weight")),
    "damaged": (_damaged, ("file", "")),
    "missing data": (_missing_data, ("data", "body.weight")),
}


@pytest.mark.parametrize("name", PLANTED)
def test_each_planted_fault_is_found(name: str, tmp_path: Path) -> None:
    plant, wanted = PLANTED[name]
    model = convolutional()
    plant(model)
    verdict = of(model, tmp_path)
    assert wanted in kinds(verdict)
    assert not verdict.sound
    assert all(each.what and each.do for each in verdict.faults)


def test_many_faults_are_listed_at_once(tmp_path: Path) -> None:
    model = convolutional()
    for plant in (_newer_ir, _unknown_attribute, _nan):
        plant(model)
    model.graph.initializer[3].CopyFrom(numpy_helper.from_array(drawn(5, 15), "head.weight"))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((8, 3, 3, 3), np.inf, "f4"), "stem.weight"))
    found = kinds(of(model, tmp_path))
    assert {kind for kind, _ in found} >= {"version", "operator", "weights", "shape"}
    assert {("weights", "body.weight"), ("weights", "stem.weight"), ("shape", "head")} <= found


def test_every_node_with_other_shapes_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], [f"y{index}"], name=f"bad{index}") for index in range(3)]
    model = tiny_graphs.model(nodes, {"x": [2, 4]}, {f"y{index}": [2, 3] for index in range(3)}, {"w": drawn(5, 3)})
    assert {("shape", f"bad{index}") for index in range(3)} <= kinds(of(model, tmp_path))


@pytest.mark.parametrize("content", [b"", b"this is no model", b"\x08\x0a\x12"])
def test_what_is_no_model_is_a_fault_and_not_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    verdict = check(tmp_path / "m.onnx")
    assert [each.kind for each in verdict.faults] == ["file"]


def test_a_file_that_is_not_there_is_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="no model file"):
        check(tmp_path / "m.onnx")


def test_faults_inside_branches_name_the_nodes_around_them(tmp_path: Path) -> None:
    def branch(name: str, reads: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4])
        return helper.make_graph([helper.make_node("Relu", [reads], [name], name=f"{name} act")], name, [], [value])

    node = helper.make_node(
        "If", ["which"], ["y"], name="choice", then_branch=branch("t", "x"), else_branch=branch("e", "z")
    )
    model = tiny_graphs.model([node], {"x": [2, 4]}, {"y": [2, 4]}, {"which": np.array(True)})
    assert ("graph", "choice / e act") in kinds(of(model, tmp_path))


def test_overflow_in_half_precision(tmp_path: Path) -> None:
    """Certain where a constant is cast, else a warning: it depends on what comes in."""
    large = drawn(16, 4) * np.float32(1e5)
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    verdict = of(tiny_graphs.model([node], {"x": [2, 16]}, {"y": [2, 4]}, {"w": large}), tmp_path)
    assert verdict.sound
    assert [(each.kind, each.where) for each in verdict.faults] == [("fp16", "w")]
    half = np.full((16, 4), 6e4, np.float16)
    model = tiny_graphs.model([node], {"x": [2, 16]}, {"y": [2, 4]}, {"w": half}, kind=TensorProto.FLOAT16)
    verdict = of(model, tmp_path)
    assert verdict.sound
    assert [(each.kind, each.where) for each in verdict.faults] == [("fp16", "product")]
    nodes = [helper.make_node("Cast", ["w"], ["h"], name="cast", to=TensorProto.FLOAT16)]
    nodes.append(helper.make_node("MatMul", ["x", "h"], ["y"], name="product"))
    model = tiny_graphs.model(nodes, {"x": [2, 16]}, {"y": [2, 4]}, {"w": large}, kind=TensorProto.FLOAT16)
    assert ("fp16", "cast") in kinds(of(model, tmp_path))


def test_a_mask_is_no_overflow(tmp_path: Path) -> None:
    mask = np.array([[0, -3.4e38]], np.float32)
    nodes = [helper.make_node("Add", ["x", "mask"], ["a"]), helper.make_node("Softmax", ["a"], ["y"])]
    assert of(tiny_graphs.model(nodes, {"x": [3, 2]}, {"y": [3, 2]}, {"mask": mask}), tmp_path).faults == ()


def test_pairs_that_cannot_fuse_say_why(tmp_path: Path) -> None:
    """The Gemm has weights in int8 and an activation that nobody rounds; both convolutions get their kernels."""
    verdict = of(quantized(convolutional()), tmp_path)
    found = {each.where: each for each in verdict.faults if each.kind == "Q/DQ" and each.severity == "fault"}
    assert list(found) == ["head"]
    assert "its input 'e' does not come from a DequantizeLinear" in found["head"].what


def test_an_older_ir_than_its_opset_is_a_warning(tmp_path: Path) -> None:
    model = convolutional()
    model.ir_version = 7
    verdict = of(model, tmp_path)
    assert verdict.sound
    assert [each.kind for each in verdict.faults] == ["version"]


def test_only_the_first_of_many_are_shown(tmp_path: Path) -> None:
    model = convolutional()
    model.graph.node.extend(helper.make_node("Relu", ["c"], [f"r{n}"], name=f"dead{n}") for n in range(30))
    verdict = of(model, tmp_path)
    assert len(verdict.faults) == 30
    shown = lines(verdict, 80)
    assert any("and 20 more; --json lists all" in line for line in shown)
    assert all(len(line) <= 80 for line in shown[:-1])

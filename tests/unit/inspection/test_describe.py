"""What a file holds: interface of any type, constants, formats, modules, and who runs it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import provenance
from exporters.errors import BadModelFile
from exporters.model_file import ModelFile
from tests.unit.inspection import tiny_graphs
from tests.unit.inspection.tiny_graphs import convolutional, drawn, quantized
from toolchain.inspection import tables, targets
from toolchain.inspection.describe import describe
from toolchain.inspection.record import Description


def of(model: onnx.ModelProto, tmp_path: Path, *, ask: bool = False, **lengths: int) -> Description:
    onnx.save(model, tmp_path / "m.onnx")
    found = describe(ModelFile(tmp_path / "m.onnx"), lengths, ask=ask)
    assert list(tables.head(found))  # and can be shown
    assert all(len(each.headings) == len(row) for each in tables.tables(found, 2) for row in each.rows)
    assert found.to_json()
    return found


def test_a_small_network(tmp_path: Path) -> None:
    model = convolutional()
    provenance.write(model, {"precision": "fp32", "recipe": "digits"})
    found = of(model, tmp_path, batch=4)
    assert (found.precision, found.opsets, found.ir_version) == ("fp32", {"ai.onnx": 20}, 10)
    assert [str(port) for port in (*found.inputs, *found.outputs)] == ["float32[batch, 3, 8, 8]", "float32[batch, 5]"]
    assert found.parameters == 8 * 27 + 8 + 16 * 72 + 5 * 16 + 5
    assert found.work.macs == 4 * (8 * 64 * 27 + 16 * 64 * 72 + 5 * 16)
    assert [(each.kind, each.constants, each.size_bytes) for each in found.types] == [
        ("float32", 5, 4 * found.parameters)
    ]
    assert found.largest[0].name == "body.weight"
    assert {each.name: (each.nodes, each.macs) for each in found.operators}["Gemm"] == (1, 4 * 80)
    assert found.formats == ()
    assert found.lineage == {"precision": "fp32", "recipe": "digits"}


def test_modules_come_from_the_names_of_weights_where_nothing_else_tells(tmp_path: Path) -> None:
    found = of(convolutional(), tmp_path)
    assert found.modules_from == "the names of weights"
    assert [(each.path, each.parameters) for each in found.modules] == [("stem", 224), ("body", 1152), ("head", 85)]
    rounded = of(quantized(convolutional()), tmp_path)
    assert [(each.path, each.macs) for each in rounded.modules] == [(each.path, each.macs) for each in found.modules]


def test_modules_from_the_metadata_of_torch(tmp_path: Path) -> None:
    model = convolutional()
    for node, scopes in zip(model.graph.node, (["net", "net.stem"], ["net"], ["net", "net.body"]), strict=False):
        classes = ["Outer", *["torch.nn.modules.conv.Conv2d"] * len(scopes), "aten"]
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=str(["", *scopes, "op"]))
        node.metadata_props.add(key="pkg.torch.onnx.class_hierarchy", value=str(classes))
    found = of(model, tmp_path)
    assert found.modules_from == "torch's metadata"
    assert [(each.path, each.nodes, each.parameters) for each in found.modules] == [
        ("net", 3, 224 + 1152), ("net.stem", 1, 224), ("net.body", 1, 1152),
    ]  # fmt: skip
    assert found.modules[1].kind == "torch.nn.modules.conv.Conv2d"


def test_modules_from_the_names_that_the_older_exporter_gives(tmp_path: Path) -> None:
    model = convolutional()
    for node, name in zip(model.graph.node, ("/net/net.0/Conv", "/net/net.1/Relu", "/net/net.2/Conv"), strict=False):
        node.name = name
    found = of(model, tmp_path)
    assert found.modules_from == "the names of nodes"
    assert [each.path for each in found.modules] == ["net", "net.0", "net.1", "net.2"]


def test_formats(tmp_path: Path) -> None:
    pairs = of(quantized(convolutional()), tmp_path).formats
    assert [each.name for each in pairs] == ["QDQ"]
    assert "activations 3 uint8 per tensor; weights 3 int8 per tensor" in pairs[0].detail
    node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=32, N=10, block_size=32)
    four = tiny_graphs.model(
        [node], {"x": [3, 32]}, {"y": [3, 10]},
        {"w": np.zeros((10, 1, 16), np.uint8), "s": np.ones(10, np.float32)}, domains=["com.microsoft"],
    )  # fmt: skip
    found = of(four, tmp_path)
    assert [(each.name, each.detail) for each in found.formats] == [("MatMulNBits", "1 4 bits in blocks of 32")]
    assert found.parameters == 320
    half = tiny_graphs.model(
        [helper.make_node("Cast", ["w"], ["f"], to=TensorProto.FLOAT), helper.make_node("MatMul", ["x", "f"], ["y"])],
        {"x": [2, 4]}, {"y": [2, 4]}, {"w": drawn(4, 4).astype(np.float16)},
    )  # fmt: skip
    assert [each.detail for each in of(half, tmp_path).formats] == ["1 constant, stored so and computed in float32"]


def test_inputs_and_outputs_of_any_type(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["s"]),
        helper.make_node("Optional", ["x"], ["o"]),
        helper.make_node("Identity", ["t"], ["u"]),
    ]
    model = tiny_graphs.model(nodes, {"x": [2, "n"]}, {}, {})
    model.graph.input.append(helper.make_tensor_value_info("t", TensorProto.STRING, ["k"]))
    model.graph.output.append(helper.make_tensor_value_info("u", TensorProto.STRING, ["k"]))
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [2, "n"])
    model.graph.output.append(helper.make_value_info("s", helper.make_sequence_type_proto(tensor)))
    model.graph.output.append(helper.make_value_info("o", helper.make_optional_type_proto(tensor)))
    found = of(model, tmp_path)
    assert [each.kind for each in found.inputs] == ["float32", "tensor(string)"]
    assert [str(each) for each in found.outputs] == [
        "tensor(string)[k]",
        "seq(tensor(float))",
        "optional(tensor(float))",
    ]


def test_an_input_with_a_default_is_one(tmp_path: Path) -> None:
    model = tiny_graphs.model(
        [helper.make_node("Mul", ["x", "factor"], ["y"])], {"x": [2], "factor": [1]}, {"y": [2]},
        {"factor": np.ones(1, np.float32)},
    )  # fmt: skip
    assert [(each.name, each.optional) for each in of(model, tmp_path).inputs] == [("x", False), ("factor", True)]


def test_the_installed_runtime_is_asked(tmp_path: Path) -> None:
    found = of(convolutional(), tmp_path, ask=True)
    assert [(each.runs, each.asked) for each in found.targets] == [(True, True), (True, False), (True, False)]
    own = tiny_graphs.model(
        [helper.make_node("Mystery", ["x"], ["y"], domain="my.own")], {"x": [2]}, {"y": [2]}, {}, domains=["my.own"]
    )
    found = of(own, tmp_path, ask=True)
    assert [each.runs for each in found.targets] == [False, False, False]
    assert "Mystery" in found.targets[0].why


def test_operators_without_a_kernel_by_their_types() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv"),
        helper.make_node("Gelu", ["y"], ["z"], name="gelu"),
    ]
    weights = {"w": drawn(4, 3, 3, 3).astype(np.float64)}
    model = tiny_graphs.model(nodes, {"x": [1, 3, 8, 8]}, {"z": None}, weights, kind=TensorProto.DOUBLE)
    assert [(each.place.label, each.why) for each in targets.absent(model)] == [
        ("conv", "ONNX Runtime has no CPU kernel for Conv on tensor(double)")
    ]
    halves = {"w": drawn(4, 3, 3, 3).astype(np.float16)}
    model = tiny_graphs.model(nodes, {"x": [1, 3, 8, 8]}, {"z": None}, halves, kind=TensorProto.FLOAT16)
    assert list(targets.absent(model)) == []  # ONNX Runtime puts casts around it


def test_weights_that_are_lost_are_said(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(convolutional(), path, save_as_external_data=True, location="m.data", size_threshold=0)
    (tmp_path / "m.data").unlink()
    with pytest.raises(BadModelFile, match=r"there is no 'm\.data'"):
        describe(ModelFile(path), {}, ask=False)


def test_nested_graphs_and_functions_are_counted(tmp_path: Path) -> None:
    def branch(name: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3])
        held = [numpy_helper.from_array(drawn(4, 3), f"{name}.w")]
        return helper.make_graph([helper.make_node("MatMul", ["x", f"{name}.w"], [name])], name, [], [value], held)

    node = helper.make_node("If", ["which"], ["y"], then_branch=branch("t"), else_branch=branch("e"))
    found = of(tiny_graphs.model([node], {"x": [2, 4]}, {"y": [2, 3]}, {"which": np.array(True)}), tmp_path)
    assert {each.name: (each.nodes, each.macs) for each in found.operators} == {"MatMul": (2, 24), "If": (1, None)}
    assert found.parameters == 24

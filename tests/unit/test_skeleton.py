"""Types and shapes that inference tells, in graphs inside nodes."""

import onnx
from onnx import TensorProto, helper

from exporters import onnx_file, skeleton


def branch(name: str, nodes: list[onnx.NodeProto], output: str, *, stated: bool) -> onnx.GraphProto:
    value = (
        helper.make_tensor_value_info(output, TensorProto.FLOAT, None) if stated else onnx.ValueInfoProto(name=output)
    )
    return helper.make_graph(nodes, name, [], [value])


def nested_ifs() -> onnx.ModelProto:
    """As torch.jit.script writes an If in an If: branches give other ranks, and state no types."""
    squeezed = branch("squeezed", [helper.make_node("Squeeze", ["x"], ["s"])], "s", stated=False)
    same = branch("same", [helper.make_node("Identity", ["x"], ["i"])], "i", stated=False)
    inner = helper.make_node("If", ["c"], ["chosen"], "inner", then_branch=squeezed, else_branch=same)
    then = branch("then", [inner], "chosen", stated=False)
    other = branch("other", [helper.make_node("Relu", ["x"], ["r"])], "r", stated=False)
    outer = helper.make_node("If", ["c"], ["y"], "outer", then_branch=then, else_branch=other)
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "n"]),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
    ]
    graph = helper.make_graph([outer], "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "n"])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_branches_that_state_no_types_stay_valid_when_shapes_are_added() -> None:
    model = nested_ifs()
    assert onnx_file.invalid(model) is None
    skeleton.add_shapes(model)
    assert onnx_file.invalid(model) is None
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT

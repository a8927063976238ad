"""What can be seen never to end, and what looks like it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import endless_loops
from exporters.errors import BadModelFile

TURNS, GO = {"turns": np.int64(2**62)}, {"go": np.bool_(True)}


def model_of(loop: list[str], body: list[onnx.NodeProto], on: str, constants: dict[str, np.generic]) -> onnx.ModelProto:
    truth: tuple[int, list[int]] = (TensorProto.BOOL, [])
    inner = helper.make_graph(
        body, "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("before", *truth)],
        [helper.make_tensor_value_info(on, *truth), helper.make_tensor_value_info("i", TensorProto.INT64, [])],
    )  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("Loop", loop, ["y"], "loop", body=inner)], "g",
        [helper.make_tensor_value_info("few", TensorProto.INT64, [])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, ["n"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


SAME = [helper.make_node("Identity", ["before"], ["after"])]
TRUE = [helper.make_node("Constant", [], ["after"], value=numpy_helper.from_array(np.array(True)))]
LESS = [helper.make_node("Less", ["i", "few"], ["after"])]


@pytest.mark.parametrize(
    ("loop", "body", "on", "constants"),
    [
        (["", ""], SAME, "after", {}),
        (["", "go"], SAME, "after", GO),
        (["turns", ""], TRUE, "after", TURNS),
        (["turns", "go"], [], "before", TURNS | GO),
    ],
)
def test_a_loop_that_nothing_ends_is_refused(
    loop: list[str], body: list[onnx.NodeProto], on: str, constants: dict[str, np.generic]
) -> None:
    with pytest.raises(BadModelFile, match=r"The Loop .loop. in .* never ends"):
        endless_loops.refuse(model_of(loop, body, on, constants), "m.onnx")


@pytest.mark.parametrize(
    ("loop", "body", "on", "constants"),
    [
        (["few", ""], SAME, "after", {}),
        (["turns", ""], SAME, "after", {"turns": np.int64(1000)}),
        (["turns", "go"], SAME, "after", TURNS | {"go": np.bool_(False)}),
        (["", "go"], LESS, "after", GO),
    ],
)
def test_a_loop_that_may_end_is_none_of_them(
    loop: list[str], body: list[onnx.NodeProto], on: str, constants: dict[str, np.generic]
) -> None:
    endless_loops.refuse(model_of(loop, body, on, constants), "m.onnx")

"""What ONNX Runtime logs of a run that fails is raised and told in a sentence; none of it reaches stderr besides."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.calibration import activations
from exporters.errors import NotConvertible
from exporters.library_output import quiet
from runtimes.base import run
from runtimes.errors import RunFailed
from runtimes.ort import OrtRuntime

X = {"x": np.ones(3, np.float32)}


def fails_as_it_runs() -> onnx.ModelProto:
    """Reshapes whatever comes to 2 x 2."""
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2])],
        [numpy_helper.from_array(np.array([2, 2]), "shape")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("after_a_tool", [False, True])
def test_sessions_of_the_exporters_print_nothing(after_a_tool: bool, capfd: pytest.CaptureFixture[str]) -> None:
    if after_a_tool:
        with quiet():
            pass
    session = activations.open_session(fails_as_it_runs())
    with pytest.raises(NotConvertible, match="cannot be reshaped"):
        activations.run(session, ["y"], X)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("after_a_tool", [False, True])
def test_sessions_of_the_runtimes_print_nothing(
    after_a_tool: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(fails_as_it_runs(), path)
    if after_a_tool:
        with quiet():
            pass
    with OrtRuntime(path, threads=1) as runtime, pytest.raises(RunFailed, match="cannot be reshaped"):
        run(runtime, X)
    assert capfd.readouterr() == ("", "")

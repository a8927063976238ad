"""Inputs and outputs of another float type: the inside stays, and the values are the original's."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.edits import Edits
from exporters.half import fp16
from exporters.model_file import ModelFile
from toolchain.conversion import editing
from toolchain.conversion.given import Data, Given
from toolchain.conversion.proof import Proven
from toolchain.errors import CheckFailed
from toolchain.inputs.samples import Samples
from toolchain.progress import SILENT

FLOAT, HALF, DOUBLE, INT = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT64
RANDOM = np.random.default_rng(0)


def value(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def saved(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, Any] | None = None,
    *,
    opset: int = 17,
) -> ModelFile:
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return ModelFile(path)


def product(path: Path, opset: int = 17) -> ModelFile:
    """Nodes without names, and a whole number beside the floats."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Gather", ["h", "places"], ["y"], axis=1),
    ]
    inputs = [value("x", FLOAT, "n", 4), value("places", INT, 2)]
    return saved(path, nodes, inputs, [value("y", FLOAT, "n", 2)], {"w": weights(4, 8)}, opset=opset)


def weights(*shape: int) -> Any:
    return RANDOM.normal(size=shape).astype(np.float32)


def made(model: ModelFile, wanted: str) -> Proven:
    dst = model.path.with_name("out.onnx")
    return editing.edit(model, dst, Edits(float_io=wanted), given=Data().source(SILENT))


def kinds(proven: Proven) -> dict[str, int]:
    graph = onnx.load(proven.artifact.path).graph
    return {each.name: each.type.tensor_type.elem_type for each in (*graph.input, *graph.output)}


def operators(proven: Proven) -> list[str]:
    return [node.op_type for node in onnx.load(proven.artifact.path).graph.node]


@pytest.mark.parametrize("opset", [7, 13, 21])
def test_a_float_model_takes_and_gives_half(opset: int, tmp_path: Path) -> None:
    done = made(product(tmp_path / "m.onnx", opset), "fp16")
    assert done.parity.passed
    assert kinds(done) == {"x": HALF, "places": INT, "y": HALF}
    assert operators(done) == ["Cast", "MatMul", "Gather", "Cast"]


@pytest.mark.parametrize("keep_io_types", [True, False])
@pytest.mark.parametrize("wanted", ["fp16", "fp32"])
def test_a_half_model_takes_and_gives_what_is_asked(wanted: str, keep_io_types: bool, tmp_path: Path) -> None:
    fp16.convert(product(tmp_path / "m.onnx"), tmp_path / "half.onnx", keep_io_types=keep_io_types)
    done = made(ModelFile(tmp_path / "half.onnx"), wanted)
    kind = HALF if wanted == "fp16" else FLOAT
    assert kinds(done) == {"x": kind, "places": INT, "y": kind}
    assert "MatMul" in operators(done)
    assert operators(done).count("Cast") == (0 if wanted == "fp16" else 2)
    weight = next(each for each in onnx.load(done.artifact.path).graph.initializer)
    assert weight.data_type == HALF


def test_doubles_become_floats(tmp_path: Path) -> None:
    model = saved(
        tmp_path / "m.onnx", [helper.make_node("Neg", ["x"], ["y"])], [value("x", DOUBLE, "n", 3)],
        [value("y", DOUBLE, "n", 3)],
    )  # fmt: skip
    assert kinds(made(model, "fp32")) == {"x": FLOAT, "y": FLOAT}


def test_branches_that_read_an_input_from_outside(tmp_path: Path) -> None:
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(operator, ["x"], [operator])], name, [], [value(operator, FLOAT, "n", 3)]
        )
        for name, operator in (("then", "Neg"), ("else", "Abs"))
    }
    model = saved(
        tmp_path / "m.onnx", [helper.make_node("If", ["flag"], ["y"], **branches)], [value("x", FLOAT, "n", 3)],
        [value("y", FLOAT, "n", 3)], {"flag": np.array(True)},
    )  # fmt: skip
    assert kinds(made(model, "fp16")) == {"x": HALF, "y": HALF}


def test_an_output_that_is_an_input_one_that_is_read_again_and_a_weight(tmp_path: Path) -> None:
    nodes = [helper.make_node("Exp", ["x"], ["y"]), helper.make_node("Add", ["y", "w"], ["z"])]
    model = saved(
        tmp_path / "m.onnx", nodes, [value("x", FLOAT, "n", 3)],
        [value("x", FLOAT, "n", 3), value("y", FLOAT, "n", 3), value("z", FLOAT, "n", 3), value("w", FLOAT, 3)],
        {"w": weights(3)},
    )  # fmt: skip
    assert set(kinds(made(model, "fp16")).values()) == {HALF}


def test_an_input_with_a_default_value(tmp_path: Path) -> None:
    model = saved(
        tmp_path / "m.onnx", [helper.make_node("Mul", ["x", "scale"], ["y"])],
        [value("x", FLOAT, "n", 3), value("scale", FLOAT, 3)], [value("y", FLOAT, "n", 3)], {"scale": weights(3)},
    )  # fmt: skip
    done = made(model, "fp16")
    assert kinds(done) == {"x": HALF, "scale": HALF, "y": HALF}
    assert onnx.load(done.artifact.path).graph.initializer[0].data_type == HALF


def test_a_cast_to_whole_numbers_and_back_stays(tmp_path: Path) -> None:
    """It rounds: it is none that a border has made needless."""
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=INT),
        helper.make_node("Cast", ["whole"], ["y"], to=FLOAT),
    ]
    model = saved(tmp_path / "m.onnx", nodes, [value("x", FLOAT, "n", 3)], [value("y", FLOAT, "n", 3)])
    assert operators(made(model, "fp16")) == ["Cast", "Cast", "Cast", "Cast"]


def test_sequences_are_left_alone(tmp_path: Path) -> None:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    model = saved(
        tmp_path / "m.onnx",
        [helper.make_node("Exp", ["x"], ["y"]), helper.make_node("SequenceConstruct", ["x", "y"], ["both"])],
        [value("x", FLOAT, "n", 3)],
        [value("y", FLOAT, "n", 3), helper.make_value_info("both", kind)],
    )
    done = made(model, "fp16")
    assert kinds(done)["y"] == HALF
    assert onnx.load(done.artifact.path).graph.output[1].type == kind


def test_what_half_precision_does_not_reach_is_refused(tmp_path: Path) -> None:
    model = saved(
        tmp_path / "m.onnx", [helper.make_node("Mul", ["x", "much"], ["y"])], [value("x", FLOAT, "n", 3)],
        [value("y", FLOAT, "n", 3)], {"much": np.array(1e6, np.float32)},
    )  # fmt: skip
    with pytest.raises(CheckFailed):
        made(model, "fp16")
    assert not (tmp_path / "out.onnx").exists()


def test_inputs_that_half_precision_does_not_reach_are_refused(tmp_path: Path) -> None:
    """The original gets them as they are: what the border takes away is part of what changed."""
    model = saved(
        tmp_path / "m.onnx",
        [helper.make_node("Mul", ["x", "little"], ["h"]), helper.make_node("Sigmoid", ["h"], ["y"])],
        [value("x", FLOAT, "n", 3)], [value("y", FLOAT, "n", 3)], {"little": np.array(1e-5, np.float32)},
    )  # fmt: skip
    large = Samples(inputs={"x": RANDOM.uniform(7e4, 3e5, (32, 3)).astype(np.float32)}, labels=None, source="test")
    given = Given(calibration=None, judged_on=large)
    with pytest.raises(CheckFailed):
        editing.edit(model, tmp_path / "out.onnx", Edits(float_io="fp16"), given=lambda file, calibrates: given)
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize(("inner", "wanted"), [(FLOAT, "fp16"), (HALF, "fp32")])
def test_a_cast_inside_to_a_third_type_stays(inner: int, wanted: str, tmp_path: Path) -> None:
    model = saved(
        tmp_path / "m.onnx",
        [helper.make_node("Cast", ["x"], ["h"], to=inner), helper.make_node("Exp", ["h"], ["e"]),
         helper.make_node("Cast", ["e"], ["y"], to=FLOAT)],
        [value("x", DOUBLE, "n", 3)], [value("y", FLOAT, "n", 3)],
    )  # fmt: skip
    assert kinds(made(model, wanted))["x"] == (HALF if wanted == "fp16" else FLOAT)

"""Static int8 keeps embeddings and recurrent weights in 8 bits too, each row or gate by a scale of its own."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from exporters.calibration import activations
from exporters.int8 import targets
from exporters.int8.static import StaticInt8
from exporters.model_file import ModelFile
from tests.contract.int8.test_awkward_graphs import graph, node, weights

RANDOM = np.random.default_rng(5)


def an_encoder() -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    nodes = [
        node("Gather", ["table", "x"], ["e"], "lookup"),
        node("LayerNormalization", ["e", "scale", "shift"], ["n"], "norm", axis=-1),
        node("MatMul", ["n", "w"], ["h"], "first"), node("Tanh", ["h"], ["t"], "tanh"),
        node("MatMul", ["t", "v"], ["y"], "last"),
    ]  # fmt: skip
    constants = weights(w=(32, 64), v=(64, 8), shift=(32,)) | {"scale": np.ones(32)}
    constants["table"] = RANDOM.normal(size=(200, 32)) * np.exp(RANDOM.normal(size=(200, 1)) * 2)
    model = graph(nodes, constants, x=("batch", 6))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    return model, {"x": RANDOM.integers(0, 200, size=(64, 6))}


def a_recurrent_net(operator: str) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[operator]
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "first"), node("Transpose", ["h"], ["t"], "time", perm=[1, 0, 2]),
        node(operator, ["t", "i", "r"], ["", "s"], "recurrent", hidden_size=24),
        node("Squeeze", ["s", "axis"], ["q"], "state"), node("MatMul", ["q", "v"], ["y"], "last"),
    ]  # fmt: skip
    constants = weights(w=(16, 20), i=(1, gates * 24, 20), r=(1, gates * 24, 24), v=(24, 8))
    model = graph(nodes, constants | {"axis": np.array([0])}, x=("batch", 5, 16))
    return model, {"x": RANDOM.normal(size=(64, 5, 16)).astype(np.float32)}


def written(
    model: onnx.ModelProto, samples: dict[str, np.ndarray], folder: Path, target: str = "x86-vnni", exclude: str = ""
) -> onnx.ModelProto:
    onnx.save(model, folder / "m.onnx")
    ready = StaticInt8(ModelFile(folder / "m.onnx"), samples=samples, int8=targets.named(target))
    assert exclude in ("", *ready.nodes)
    ready.write(folder / "q.onnx", exclude=[exclude] if exclude else [])
    return ModelFile(folder / "q.onnx").proto


def sqnr_db(model: onnx.ModelProto, made: onnx.ModelProto, samples: dict[str, np.ndarray]) -> float:
    right, found = (activations.open_session(each).run(None, samples)[0] for each in (model, made))
    return float(10 * np.log10(np.square(right).sum() / np.square(right - found).sum()))


def floats(model: onnx.ModelProto) -> int:
    """The numbers in the largest weight in fp32."""
    return max(int(np.prod(each.dims)) for each in model.graph.initializer if each.data_type == TensorProto.FLOAT)


def test_a_table_is_kept_in_8_bits_by_rows(tmp_path: Path) -> None:
    model, samples = an_encoder()
    made = written(model, samples, tmp_path)
    assert floats(made) == 200  # the scales of the rows
    assert sqnr_db(model, made, samples) > 30


def test_a_table_may_stay_in_float(tmp_path: Path) -> None:
    model, samples = an_encoder()
    assert floats(written(model, samples, tmp_path, exclude="lookup")) == 200 * 32


@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("target", ["x86-vnni", "openvino"])
def test_recurrent_weights_are_kept_in_8_bits(operator: str, target: str, tmp_path: Path) -> None:
    model, samples = a_recurrent_net(operator)
    made = written(model, samples, tmp_path, target)
    assert floats(made) < 24 * 20
    assert sqnr_db(model, made, samples) > 25
    own = {each.domain for each in made.graph.node} - {"", "ai.onnx"}
    assert own == ({"com.microsoft"} if (operator, target) == ("LSTM", "x86-vnni") else set())

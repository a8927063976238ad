"""Static int8 of a graph with a state of batch 1 beside a sequence: both are fed as the file's own shapes say."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exporters import onnx_file
from exporters.int8 import targets
from exporters.int8.evidence import Evidence
from exporters.int8.static import StaticInt8, StaticOptions
from exporters.model_file import ModelFile

# inference finds that y is as long as x: T, which read off the outputs would be the batch, and h a value of every call
TEXT = """<ir_version: 8, opset_import: ["" : 17]>
speech (float[T, 16] x, float[1, 1, 8] h) => (float[p] y, float[1, 1, 8] hn) {
    [first] a = MatMul (x, w)
    [rectify] r = Relu (a)
    [second] s = MatMul (r, v)
    y = ReduceSum <keepdims = 0> (s, last)
    steps = Unsqueeze (s, front)
    m = ReduceMean <axes = [1]> (steps)
    [third] g = MatMul (h, u)
    hn = Add (m, g)
}"""


@pytest.fixture
def model(tmp_path: Path) -> ModelFile:
    made = onnx.parser.parse_model(TEXT)
    random = np.random.default_rng(0)
    for name, shape in (("w", (16, 32)), ("v", (32, 8)), ("u", (8, 8))):
        made.graph.initializer.append(numpy_helper.from_array(random.normal(size=shape).astype(np.float32) / 4, name))
    for name, axis in (("last", 1), ("front", 0)):
        made.graph.initializer.append(numpy_helper.from_array(np.array([axis], np.int64), name))
    onnx_file.save(made, tmp_path / "speech.onnx")
    return ModelFile(tmp_path / "speech.onnx")


def test_the_batch_is_what_it_is_in_the_file(model: ModelFile, tmp_path: Path) -> None:
    assert model.batch_axes.fixed == 1
    random = np.random.default_rng(1)
    samples = {
        "x": random.normal(size=(24, 12, 16)).astype(np.float32),
        "h": random.normal(size=(24, 1, 8)).astype(np.float32),
    }
    int8 = targets.named("x86-vnni")
    ready = StaticInt8(model, samples=samples, int8=int8, options=StaticOptions())
    made = ModelFile(ready.write(tmp_path / "made.onnx").path)
    assert [value.shape for value in made.outputs] == [value.shape for value in model.outputs]
    assert made.batch_axes == model.batch_axes
    assert Evidence(model.proto, samples).sqnr_db(made.proto) > 25

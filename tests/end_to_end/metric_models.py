"""A regression model and a segmentation model with data whose right answers they mostly give, without PyTorch."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser

from exporters.model_file import ModelFile
from toolchain.accuracy.running import calls_of

SIDE = 12
_REGRESSION = """<ir_version: 8, opset_import: ["" : 17]>
regression (float[N, 16] x) => (float[N, 1] y) {
    [wide] h = MatMul (x, w)
    r = Relu (h)
    [last] y = MatMul (r, v)
}"""
_SEGMENTATION = """<ir_version: 8, opset_import: ["" : 17]>
segmentation (float[N, 3, 12, 12] image) => (float[N, 3, 12, 12] scores) {
    [near] h = Conv <pads = [1, 1, 1, 1]> (image, w)
    r = Relu (h)
    [point] scores = Conv (r, v)
}"""


def _written(text: str, path: Path, **weights: np.ndarray) -> Path:
    model = parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(each, name) for name, each in weights.items())
    onnx.save(model, path)
    return path


def _answers(path: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    file = ModelFile(path)
    return np.concatenate([next(iter(call.values())) for call in calls_of(file, inputs, file.batch_axes)])


def regression(folder: Path, *, count: int = 400) -> Path:
    """``regression.onnx``, and ``numbers.npz`` with float ``targets`` ``(N,)``."""
    random = np.random.default_rng(0)
    shapes = {"w": (16, 32), "v": (32, 1)}
    weights = {name: random.normal(size=shape).astype(np.float32) / 4 for name, shape in shapes.items()}
    path = _written(_REGRESSION, folder / "regression.onnx", **weights)
    x = random.normal(size=(count, 16)).astype(np.float32)
    y = _answers(path, {"x": x})[:, 0]
    np.savez(folder / "numbers.npz", x=x, targets=y + 0.3 * y.std() * random.normal(size=count).astype(np.float32))
    return path


def segmentation(folder: Path, *, count: int = 120) -> Path:
    """``segmentation.onnx``, and ``masks.npz`` with whole ``targets`` ``(N, 12, 12)``."""
    random = np.random.default_rng(0)
    shapes = {"w": (8, 3, 3, 3), "v": (3, 8, 1, 1)}
    weights = {name: random.normal(size=shape).astype(np.float32) / 4 for name, shape in shapes.items()}
    path = _written(_SEGMENTATION, folder / "segmentation.onnx", **weights)
    image = random.normal(size=(count, 3, SIDE, SIDE)).astype(np.float32)
    truth = _answers(path, {"image": image}).argmax(1).astype(np.uint8)
    wrong = random.random(truth.shape) < 0.1
    np.savez(folder / "masks.npz", image=image, targets=np.where(wrong, (truth + 1) % 3, truth).astype(np.uint8))
    return path

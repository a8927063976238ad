"""A model of one product and calibration data for it, made in milliseconds and without PyTorch."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write(path: Path, *, features: int = 16, node: str = "product", opset: int = 20) -> Path:
    """``y = x @ w + b`` over a dynamic batch; ``node`` is what its product is called."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(features, features)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["product"], name=node),
            helper.make_node("Add", ["product", "b"], ["y"], name="sum"),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", features])],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(random.normal(size=features).astype(np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.save(model, path)
    return path


def write_samples(path: Path, *, features: int = 16, count: int = 64) -> Path:
    """Calibration samples for its input ``x``."""
    np.savez(path, x=np.random.default_rng(1).normal(size=(count, features)).astype(np.float32))
    return path

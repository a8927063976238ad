"""What is measured where nobody says."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.model_file import ModelFile
from toolchain.bench import target_rows


def model(path: Path, batch: int | str, *, flat: bool = False) -> ModelFile:
    """x (batch, 8) @ w (8, 4), in one row of 12 numbers where it is ``flat``."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["product"]), helper.make_node("Reshape", ["product", "s"], ["y"])]
    shape = [12] if flat else [-1, 4]
    weights = [numpy_helper.from_array(np.ones((8, 4), np.float32), "w"), numpy_helper.from_array(np.array(shape), "s")]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [12] if flat else [batch, 4])
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return ModelFile(path)


@pytest.mark.parametrize(
    ("kinds", "batches"),
    [
        ("dynamic", (1, 32)),
        ("fixed", (3,)),
        ("unbatched", (1,)),
        ("dynamic fixed", (3,)),
        ("fixed unbatched", (3,)),
        ("unbatched fixed", (1,)),
        ("dynamic unbatched", (1,)),
    ],
)
def test_where_no_batch_is_asked_for_it_is_one_at_which_the_files_run(
    kinds: str, batches: tuple[int, ...], tmp_path: Path
) -> None:
    files = {
        "dynamic": model(tmp_path / "dynamic.onnx", "N"),
        "fixed": model(tmp_path / "fixed.onnx", 3),
        "unbatched": model(tmp_path / "unbatched.onnx", 3, flat=True),
    }
    assert target_rows.batches([files[kind] for kind in kinds.split()]) == batches

"""The rows of an artifacts folder."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.atomic_file import sha256_of
from exporters.model_file import ModelFile
from toolchain.artifacts_folder import MODELS
from toolchain.bench import candidates
from toolchain.errors import BadUsage

WEIGHT = np.ones((64, 64), np.float32)


def save(path: Path, **options: Any) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in "xy")
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    graph = helper.make_graph([node], "g", [x], [y], [numpy_helper.from_array(WEIGHT, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path, **options)


def test_a_rows_size_is_that_of_all_its_files(tmp_path: Path) -> None:
    save(tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    row = candidates.of_file(ModelFile(tmp_path / "m.onnx"), label="m")
    assert row.size_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert row.size_bytes > WEIGHT.nbytes
    assert row.sha256 != sha256_of(tmp_path / "m.onnx")


def test_a_broken_file_in_a_folder_is_a_row_of_the_precision_that_its_name_says(tmp_path: Path) -> None:
    save(tmp_path / MODELS["fp32"])
    (tmp_path / MODELS["int8-static"]).write_bytes(b"no model")
    rows = candidates.of_folder(tmp_path, "tiny", None)  # type: ignore[arg-type]  # there is no checkpoint
    assert [(row.label, row.precision) for row in rows] == [("ort fp32", "fp32"), ("ort int8-static", "int8-static")]
    assert rows[1].size_bytes == 8


def test_a_folder_without_anything_to_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadUsage, match="no checkpoint and no model"):
        candidates.of_folder(tmp_path, "tiny", None)  # type: ignore[arg-type]

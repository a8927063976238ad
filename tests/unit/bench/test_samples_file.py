"""What a bench saves of its samples is what its rows map, in an interpreter without the onnx package too."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from toolchain.bench import samples_file


def test_samples_come_back_as_they_were(tmp_path: Path) -> None:
    unequal = [np.arange(length * 2).reshape(length, 2) for length in (3, 0, 1)]
    given: dict[str, Any] = {
        "x": np.ones((3, 4), np.float32), "flag": np.array(True), "ids": unequal,
        "texts": np.array(["a", "", "été"], object),
    }  # fmt: skip
    found = samples_file.mapped(samples_file.write(given, tmp_path))
    np.testing.assert_array_equal(found["x"], given["x"])
    assert (np.shape(found["flag"]), bool(found["flag"])) == ((), True)
    assert [array.tolist() for array in found["ids"]] == [array.tolist() for array in unequal]
    assert [array.shape for array in found["ids"]] == [array.shape for array in unequal]
    assert np.asarray(found["texts"]).tolist() == ["a", "", "été"]


def test_a_row_needs_no_onnx() -> None:
    program = "import sys; sys.modules['onnx'] = None; import toolchain.bench.row"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=120).returncode == 0

"""Packages that were made here, on an emulated arm64: other instructions, the same answers within the tolerances."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests import emulated_arm64
from toolchain.errors import CheckFailed
from toolchain.shipping import contents, package, packing, self_test
from toolchain.shipping.packing import Title


@pytest.fixture(scope="module")
def packed(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    emulated_arm64.python()
    output = tmp_path_factory.mktemp("arm64") / "digits.ortpackage"
    return packing.pack(contents.of_folder(digits), output, Title(name="digits")).path


def test_every_variant_answers_there_as_here(packed: Path) -> None:
    receipt = self_test.run(packed, python=emulated_arm64.python())
    assert receipt["machine"]["architecture"] == "aarch64"
    assert "emulated" in receipt["machine"]["processor"]
    assert set(receipt["variants"]) == {each.name for each in package.read(packed).variants}
    off = {name: max(each["largest_difference"].values()) for name, each in receipt["variants"].items()}
    assert 0 < off["fp32"] < 1e-4, "it summed in the order of this processor: was it emulated?"


def test_another_answer_is_found_there(packed: Path, tmp_path: Path) -> None:
    harmed = Path(shutil.copytree(packed, tmp_path / "harmed.ortpackage"))
    arrays = np.fromfile(harmed / package.GOLDEN_ARRAYS, np.float32)
    (arrays + np.float32(0.5)).tofile(harmed / package.GOLDEN_ARRAYS)
    with pytest.raises(CheckFailed, match="golden fp32: 'logits' of case 0 is off by"):
        self_test.run(harmed, python=emulated_arm64.python())

"""What is calibrated on, and what judges: where nothing is calibrated, all samples judge."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exporters.model_file import ModelFile
from tests.contract.tiny_models import MODELS
from toolchain.conversion.given import Data
from toolchain.errors import BadUsage
from toolchain.progress import SILENT


@pytest.fixture
def model(exported: Callable[[str], Path]) -> ModelFile:
    return ModelFile(exported("mlp"))


@pytest.fixture
def file(tmp_path: Path) -> str:
    np.savez(tmp_path / "x.npz", **MODELS["mlp"].samples(40))  # type: ignore[arg-type]
    return str(tmp_path / "x.npz")


def test_a_file_is_split_where_something_is_calibrated(model: ModelFile, file: str) -> None:
    given = Data(calibration=file).source(SILENT)(model, True)
    assert given.calibration is not None
    assert (len(given.calibration), len(given.judged_on)) == (32, 8)


@pytest.mark.parametrize("evaluation", [True, False])
def test_where_nothing_is_calibrated_all_of_it_judges(evaluation: bool, model: ModelFile, file: str) -> None:
    given = Data(calibration=file, evaluation=file if evaluation else None).source(SILENT)(model, False)
    assert given.calibration is None
    assert len(given.judged_on) == 40


def test_what_was_calibrated_on_does_not_judge(model: ModelFile, file: str) -> None:
    with pytest.raises(BadUsage, match="among those that judge"):
        Data(calibration=file, evaluation=file).source(SILENT)(model, True)


def test_without_any_data_seeded_noise_judges(model: ModelFile) -> None:
    given = Data().source(SILENT)(model, True)
    assert given.calibration is None
    assert not given.judged_on.real

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exporters.calibration.thresholds import Method
from exporters.int8 import targets
from exporters.int8.evidence import Evidence
from exporters.int8.static import StaticInt8, StaticOptions
from exporters.model_file import ModelFile
from tests.contract.tiny_models import MODELS
from toolchain.conversion import range_choice

Exported = Callable[[str], Path]


def methods_by_tensor(ready: StaticInt8, inputs: dict[str, np.ndarray]) -> dict[str, Method]:
    compared = range_choice.compared(ready.method)
    return range_choice.best_by_tensor({method: range_choice.noise_by(method, ready, inputs) for method in compared})


@pytest.fixture
def outlier() -> dict[str, np.ndarray]:
    """Samples of which one holds a value that stretches every range, and tells the net nothing."""
    samples = dict(MODELS["residual"].samples(64))
    samples["x"] = samples["x"].copy()
    samples["x"][0] *= 40
    return samples


def test_a_better_method_is_found_for_the_tensors_that_need_it(
    outlier: dict[str, np.ndarray], exported: Exported, tmp_path: Path
) -> None:
    ready = StaticInt8(
        ModelFile(exported("residual")),
        samples=outlier,
        int8=targets.named("x86-vnni"),
        options=StaticOptions(method="minmax"),
    )
    few = {"x": outlier["x"][1:]}
    chosen = methods_by_tensor(ready, few)
    assert chosen
    assert "minmax" not in chosen.values()
    plain = Evidence(ModelFile(exported("residual")).proto, few)
    before, after = ready.write(tmp_path / "a.onnx"), ready.write(tmp_path / "b.onnx", methods=chosen)
    assert plain.sqnr_db(ModelFile(after.path).proto) > plain.sqnr_db(ModelFile(before.path).proto)


def test_what_is_best_already_stays(exported: Exported, tmp_path: Path) -> None:
    samples = MODELS["mlp"].samples(64)
    ready = StaticInt8(ModelFile(exported("mlp")), samples=samples, int8=targets.named("x86-vnni"))
    assert len(methods_by_tensor(ready, samples)) <= 1

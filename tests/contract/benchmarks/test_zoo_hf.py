"""The zoo's own measure tells a wrong file from a right one, and its list holds what it says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers", reason="the extra hf is not installed")

from benchmarks.zoo_hf import judging, tiny  # noqa: E402
from benchmarks.zoo_hf.types import TYPES, Type  # noqa: E402
from exporters import torch_onnx  # noqa: E402


def test_the_list_has_a_hundred_types_that_transformers_knows() -> None:
    names = [kind.name for kind in TYPES]
    assert len(set(names)) == len(names) >= 100
    for kind in TYPES:
        assert kind.name in transformers.CONFIG_MAPPING
        assert issubclass(getattr(transformers, kind.architecture), transformers.PreTrainedModel)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("spoilt", [False, True])
def test_a_file_is_judged_beside_the_model_as_transformers_loads_it(spoilt: bool, tmp_path: Path) -> None:
    tiny.save(Type("resnet", "ResNetForImageClassification", {"depths": [1]}, side=32), tmp_path)
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["size"]["height"] == 32
    model = judging._model(tmp_path)
    if spoilt:
        with torch.no_grad():
            model.classifier[1].bias[0] += 1e-2
    example = {"pixel_values": torch.zeros(2, 3, 32, 32)}
    torch_onnx.export(model, tmp_path / "m.onnx", example_inputs=example, output_names=["logits"])
    found = judging._compared(tmp_path, tmp_path / "m.onnx")
    assert (found["sizes"], found["why"][:25]) == ((0, "batch 1: output 0 differs") if spoilt else (3, ""))


def test_shapes_whole_numbers_and_infinities_are_compared() -> None:
    floats, ints = np.array([[1.0, -np.inf]], np.float32), np.array([1, 2])
    assert judging._unlike([floats, ints], [floats.copy(), ints.copy()]) == ""
    assert judging._unlike([floats], [floats, ints]) == "2 outputs, not 1"
    assert "shape" in judging._unlike([floats], [floats[0]])
    assert "finite" in judging._unlike([floats], [np.zeros_like(floats)])
    assert "whole numbers" in judging._unlike([ints], [ints + 1])

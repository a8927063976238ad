"""Every tiny model, exported once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from exporters import torch_onnx
from tests.contract.tiny_models import MODELS


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """exported("mlp") -> the fp32 file of that tiny model."""
    folder = tmp_path_factory.mktemp("tiny")

    def export(name: str) -> Path:
        path = folder / f"{name}.onnx"
        if not path.exists():
            examples = {key: torch.from_numpy(array) for key, array in MODELS[name].samples(2).items()}
            torch_onnx.export(MODELS[name].module(), path, example_inputs=examples, output_names=["scores"])
        return path

    return export

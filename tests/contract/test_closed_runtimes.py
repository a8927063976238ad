"""Whoever opens a runtime closes it, whatever happens inside."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exporters.int8 import static as int8_static
from exporters.int8.targets import TARGETS
from exporters.model_file import ModelFile
from runtimes.errors import BadFeed
from runtimes.ort import OrtRuntime
from tests.contract.comparing import outputs_of
from tests.contract.tiny_models import MODELS
from toolchain.layers.damage import damage


@pytest.fixture
def still_open(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The runtimes that were opened and not closed."""
    found: set[int] = set()
    real_open, real_close = OrtRuntime.open, OrtRuntime.close

    def opened(self: OrtRuntime) -> None:
        real_open(self)
        found.add(id(self))

    def closed(self: OrtRuntime) -> None:
        real_close(self)
        found.discard(id(self))

    monkeypatch.setattr(OrtRuntime, "open", opened)
    monkeypatch.setattr(OrtRuntime, "close", closed)
    return found


def test_parity_closes_its_runtime(exported: Callable[[str], Path], still_open: set[int]) -> None:
    outputs_of(exported("mlp"), MODELS["mlp"].samples(8))
    assert not still_open
    with pytest.raises(BadFeed):
        outputs_of(exported("mlp"), {"nothing": np.zeros((8, 2), np.float32)})
    assert not still_open


def test_layers_close_their_runtimes(exported: Callable[[str], Path], tmp_path: Path, still_open: set[int]) -> None:
    src, samples = ModelFile(exported("mlp")), MODELS["mlp"].samples(16)
    made = int8_static.convert(src, tmp_path / "q.onnx", samples=samples, int8=TARGETS["x86-avx2"])
    assert damage(ModelFile(made.path), src, samples)
    assert not still_open

"""What only a CUDA device can show. `make gpu` runs these; elsewhere they skip with the reason."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from runtimes import registry
from runtimes.base import run
from runtimes.ort import OrtRuntime
from tests.contract.tiny_models import MODELS
from toolchain.inputs import sources
from toolchain.progress import SILENT
from toolchain.training import loop
from toolchain.training import options as training_options

CUDA = registry.PROVIDERS["cuda"]
torch_sees_one = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device")
ort_sees_one = pytest.mark.skipif(not registry.available("ort", CUDA), reason="this onnxruntime has no CUDA")


@pytest.mark.gpu
@torch_sees_one
@pytest.mark.parametrize("amp", ["off", "fp16", "bf16"])
def test_training_on_cuda_learns_and_resumes(amp: str, tmp_path: Path) -> None:
    recipe = sources.recipe_named("digits")
    data = recipe.data(None).load()
    chosen = training_options.resolve(recipe, progress=SILENT, epochs=8, device="cuda", amp=amp, compile=False)
    assert chosen.switches.async_copy
    result = loop.train(recipe, data, chosen, tmp_path, progress=SILENT)
    assert (result.best.validation_score or 0) > 0.9
    again = loop.train(recipe, data, chosen, tmp_path, resume=True, progress=SILENT)
    assert again.best == result.best


@pytest.mark.gpu
@ort_sees_one
@pytest.mark.parametrize("name", MODELS)
def test_the_graph_runs_on_cuda_and_says_so(name: str, exported: Callable[[str], Path]) -> None:
    runtime = OrtRuntime(exported(name), provider=CUDA.ort_name)
    runtime.open()
    assert (runtime.placement().share(CUDA.ort_name) or 0) > 0.5
    samples = MODELS[name].samples(7)
    with torch.inference_mode():
        expected = MODELS[name].module()(torch.from_numpy(samples["x"])).numpy()
    scores: Any = run(runtime, samples)["scores"]
    np.testing.assert_allclose(scores, expected, atol=1e-2)


@pytest.mark.gpu
@torch_sees_one
def test_the_fastest_switches_fit_the_device() -> None:
    switches = training_options.fastest("cuda")
    assert switches.cast_before_copy
    assert not switches.reuse_memory
    assert json.dumps(switches.on())

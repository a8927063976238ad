"""What every runtime promises, on every tiny model. One that is not available here is skipped with its reason."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from runtimes import registry
from runtimes.base import Runtime, TensorSpec, run
from runtimes.errors import BadFeed
from runtimes.ort import OrtRuntime
from runtimes.torch_compiled import TorchCompiled
from runtimes.torch_eager import TorchEager
from tests.contract.tiny_models import MODELS

Exported = Callable[[str], Path]
PAIRS = [(runtime, provider) for runtime in registry.RUNTIMES for provider in ("cpu", "cuda", "openvino")]


def build(runtime: str, provider: str, name: str, exported: Exported) -> Runtime:
    known = registry.provider_named(provider)
    there = registry.available(runtime, known)
    if not there:
        pytest.skip(f"{runtime} on {provider}: {there.why}")
    if runtime == "ort":
        return OrtRuntime(exported(name), provider=known.ort_name)
    kind = TorchCompiled if runtime == "compiled" else TorchEager
    spec = TensorSpec("x", "float32", ("batch", *MODELS[name].shape))
    return kind(
        MODELS[name].module(),
        inputs=[spec],
        outputs=[TensorSpec("scores", "float32", ("batch", 5))],
        device=str(known.torch_device),
    )


@pytest.mark.parametrize(("runtime", "provider"), PAIRS)
@pytest.mark.parametrize("name", MODELS)
def test_a_runtime_gives_pytorchs_answers(runtime: str, provider: str, name: str, exported: Exported) -> None:
    if runtime == "compiled" and name != "mlp":
        pytest.skip("compiling one model is proof enough, and takes seconds")
    opened = build(runtime, provider, name, exported)
    opened.open()
    samples = MODELS[name].samples(7)
    with torch.inference_mode():
        expected = MODELS[name].module()(torch.from_numpy(samples["x"])).numpy()
    result = run(opened, samples)
    assert list(result) == ["scores"]
    np.testing.assert_allclose(result["scores"], expected, atol=1e-4 if provider == "cpu" else 1e-2)
    share = opened.placement().share(registry.provider_named(provider).ort_name)
    assert share is None or share > 0
    opened.close()
    opened.close()


@pytest.mark.parametrize(("runtime", "provider"), PAIRS)
def test_a_bound_call_runs_again_and_again(runtime: str, provider: str, exported: Exported) -> None:
    opened = build(runtime, provider, "mlp", exported)
    opened.open()
    call = opened.bind(MODELS["mlp"].samples(3))
    first, second = call()["scores"].copy(), call()["scores"].copy()
    np.testing.assert_array_equal(first, second)
    opened.close()


@pytest.mark.parametrize(("runtime", "provider"), PAIRS)
def test_a_feed_that_does_not_fit_is_refused(runtime: str, provider: str, exported: Exported) -> None:
    opened = build(runtime, provider, "mlp", exported)
    opened.open()
    for feeds in ({}, {"y": np.zeros((1, 12), np.float32)}, {"x": np.zeros((1, 13), np.float32)}):
        with pytest.raises(BadFeed):
            opened.bind(feeds)
    with pytest.raises(BadFeed, match="float64"):
        opened.bind({"x": np.zeros((1, 12))})
    opened.close()

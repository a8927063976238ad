"""Where PyTorch's time goes, eager and compiled."""

import pytest
import torch

from runtimes import registry, torch_profile
from runtimes.base import TensorSpec
from runtimes.node_time import PYTHON
from runtimes.torch_compiled import TorchCompiled
from runtimes.torch_eager import TorchEager
from tests.contract.tiny_models import MODELS

COMPILER = registry.available("compiled", registry.PROVIDERS["cpu"])


def runtime(name: str, kind: type[TorchEager]) -> TorchEager:
    tiny = MODELS[name]
    opened = kind(
        tiny.module(),
        inputs=[TensorSpec("x", "float32", ("batch", *tiny.shape))],
        outputs=[TensorSpec("scores", "float32", ("batch", "scores"))],
    )
    opened.open()
    return opened


@pytest.mark.parametrize("name", MODELS)
def test_the_operators_of_an_eager_module_share_its_time(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    nodes = torch_profile.time_shares(runtime(name, TorchEager).bind(MODELS[name].samples(2)), runs=4)
    assert sum(node.share for node in nodes) == pytest.approx(1)
    assert len({node.name for node in nodes}) == len(nodes)
    assert {node.provider for node in nodes} == {"cpu"}
    assert {"aten::addmm", PYTHON} <= {node.op_type for node in nodes}
    assert tuple(capfd.readouterr()) == ("", "")


def test_an_operator_has_its_own_time_once() -> None:
    """A slow operator called by a quick one is not counted twice, and calls are added up."""
    matrix = torch.ones(256, 256)

    def call() -> torch.Tensor:
        with torch.inference_mode():
            return torch.nn.functional.linear(matrix, matrix) @ matrix

    nodes = {node.name: node for node in torch_profile.time_shares(call, runs=6)}
    assert nodes["aten::mm"].share > 0.5
    assert nodes["aten::mm"].mean_us > 5 * nodes["aten::linear"].mean_us


@pytest.mark.skipif(not COMPILER, reason=f"{COMPILER.why}")
def test_the_kernels_of_a_compiled_module_are_told_apart() -> None:
    compiled = runtime("mlp", TorchCompiled)
    call = compiled.bind(MODELS["mlp"].samples(2))
    expected = call()["scores"]
    nodes = torch_profile.time_shares(call, runs=4, compiled=True)
    assert any("_cpp_fused_relu" in node.name for node in nodes)
    assert "aten::addmm" in {node.op_type for node in nodes}
    assert not any("CompiledFxGraph" in node.name for node in nodes)
    assert (call()["scores"] == expected).all()


def test_a_profile_of_no_run_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one run"):
        torch_profile.time_shares(int, runs=0)

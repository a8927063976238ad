"""A module whose weights lie in files is the same module, and its export is the same file."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from exporters import large_weights, one_file, torch_weights
from exporters.external_data import Keeping, keeping
from exporters.model_file import ModelFile
from toolchain.conversion import exporting
from toolchain.conversion.target import Target
from toolchain.progress import SILENT

WIDTH = 64
TARGET = Target.of(None, opset=None, ir_version=None)


class Net(nn.Module):
    """Tied weights, a view of one, a large buffer, half precision, and a product whose weight the exporter turns."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(WIDTH, WIDTH)
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.second.weight = self.first.weight
        self.upper = nn.Parameter(self.table.weight.data[: WIDTH // 2])
        self.register_buffer("mask", torch.randn(WIDTH, WIDTH))
        self.coarse = nn.Parameter(torch.randn(2 * WIDTH, WIDTH).half())

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.second(self.first(self.table(tokens))) + self.mask.sum(0) + self.upper.sum(0)
        scores: Tensor = hidden @ self.coarse.float().T
        return scores


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_file, "LARGE_BYTES", 1)
    monkeypatch.setattr(large_weights, "MIN_BYTES", 2048)


def tokens() -> Tensor:
    return torch.arange(3 * 5).reshape(3, 5) % WIDTH


def test_it_is_the_same_module_in_the_block_and_after_it() -> None:
    net = Net().eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        wanted = net(tokens())
        with torch_weights.in_files(net):
            with torch_weights.passing():
                assert torch.equal(net(tokens()), wanted)
            assert torch.equal(net(tokens()), wanted)
        assert torch.equal(net(tokens()), wanted)
    after = net.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert net.first.weight is net.second.weight
    assert net.upper.data_ptr() == net.table.weight.data_ptr()
    net(tokens()).sum().backward()
    assert net.first.weight.grad is not None


def test_what_is_written_to_a_weight_stays_when_its_memory_goes() -> None:
    layer = nn.Linear(WIDTH, WIDTH)
    net = nn.Sequential(layer)
    with torch_weights.in_files(net), torch.no_grad():
        layer.weight.fill_(2.0)
        with torch_weights.passing():
            net(torch.ones(1, WIDTH))
        assert torch.equal(layer.weight, torch.full((WIDTH, WIDTH), 2.0))


def test_a_small_module_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_file, "LARGE_BYTES", 1 << 30)
    net = Net()
    places = [value.data_ptr() for value in net.parameters()]
    with torch_weights.in_files(net):
        assert [value.data_ptr() for value in net.parameters()] == places
        assert not large_weights.is_open()


FACTORY = "from tests.contract.export.test_torch_weights import Net as make\n"


@pytest.mark.parametrize("how", [Keeping.ALWAYS, Keeping.NEVER])
def test_the_export_is_that_of_a_module_in_memory(
    how: Keeping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.py").write_text(FACTORY)
    made = {}
    for name, limit in (("files", 1), ("memory", 1 << 30)):
        monkeypatch.setattr(one_file, "LARGE_BYTES", limit)
        with keeping(how):
            proven = exporting.export_named(
                f"{tmp_path / 'net.py'}:make", tmp_path / f"{name}.onnx", arguments={}, weights=None,
                input_specs=["tokens=int64[batch,5]<64"], input_data=None, output_names=[], target=TARGET,
                progress=SILENT,
            )  # fmt: skip
        assert proven.parity.passed
        assert bool(ModelFile(tmp_path / f"{name}.onnx").external_files) == (how is Keeping.ALWAYS)
        model = onnx.load(tmp_path / f"{name}.onnx")
        made[name] = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}, model
    weights, others = made["files"][0], made["memory"][0]
    assert weights.keys() == others.keys()
    assert all(np.array_equal(weights[name], others[name]) for name in weights)
    assert made["files"][1].graph.node == made["memory"][1].graph.node

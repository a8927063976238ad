"""What torch.onnx writes for an encoder at opset 23, in 3-D form and in dynamic int8."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from exporters import onnx_file, provenance, torch_onnx
from exporters.errors import BadOption
from exporters.int8 import attention_form
from exporters.int8 import dynamic as int8_dynamic
from exporters.int8.targets import TARGETS
from exporters.model_file import ModelFile
from tests.contract.comparing import outputs_of
from toolchain.stats import sqnr_db

HIDDEN, HEADS, TOKENS, LAYERS = 64, 4, 16, 2


class Layer(nn.Module):
    """MiniLM's, smaller."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.merge = (nn.Linear(HIDDEN, HIDDEN) for _ in range(4))
        self.wide, self.narrow = nn.Linear(HIDDEN, 4 * HIDDEN), nn.Linear(4 * HIDDEN, HIDDEN)
        self.first_norm, self.second_norm = nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        split = [
            linear(tokens).unflatten(-1, (HEADS, HIDDEN // HEADS)).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        ]
        context = F.scaled_dot_product_attention(split[0], split[1], split[2], attn_mask=mask)
        tokens = self.first_norm(tokens + self.merge(context.transpose(1, 2).flatten(2)))
        out: torch.Tensor = self.second_norm(tokens + self.narrow(F.gelu(self.wide(tokens))))
        return out


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, tokens: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        """``keep`` ``(N, S)`` is 1 where a token counts, 0 where it is padding."""
        # ONNX Runtime 1.31's Attention refuses a mask of (N, 1, 1, S), which the standard allows: written out here
        mask = None if keep is None else (keep > 0)[:, None, None, :].expand(-1, 1, TOKENS, -1)
        for layer in self.layers:
            tokens = layer(tokens, mask)
        return tokens.mean(1)


def samples(masked: bool, count: int = 9) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    given = {"tokens": random.normal(size=(count, TOKENS, HIDDEN)).astype(np.float32)}
    if masked:
        lengths = random.integers(4, TOKENS + 1, size=(count, 1))
        given["keep"] = (np.arange(TOKENS) < lengths).astype(np.float32)
    return given


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "masked"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bool]:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("encoder") / "encoder.onnx"
    examples = {name: torch.from_numpy(array[:2]) for name, array in samples(request.param).items()}
    torch_onnx.export(Encoder(), path, example_inputs=examples, output_names=["sentence"], opset=23)
    return path, request.param


def test_an_exported_encoder_loses_its_transposes_and_keeps_its_results(
    encoder: tuple[Path, bool], tmp_path: Path
) -> None:
    src, masked = encoder
    model = ModelFile(src).proto
    before = Counter(node.op_type for node in model.graph.node)
    assert (before["Attention"], before["Transpose"], before["Reshape"]) == (LAYERS, 4 * LAYERS, 4 * LAYERS)
    changed = attention_form.flattened(model)
    assert changed is not None
    flat, _ = changed
    onnx_file.check(flat, step="test")
    after = Counter(node.op_type for node in flat.graph.node)
    assert before - after == {"Transpose": 4 * LAYERS, "Reshape": 4 * LAYERS}
    assert not after - before
    onnx_file.save(flat, tmp_path / "flat.onnx")
    expected = outputs_of(src, samples(masked))["sentence"]
    np.testing.assert_array_equal(outputs_of(tmp_path / "flat.onnx", samples(masked))["sentence"], expected)


def test_its_dynamic_int8_has_the_form_and_says_so(encoder: tuple[Path, bool], tmp_path: Path) -> None:
    src, masked = encoder
    made = int8_dynamic.convert(ModelFile(src), tmp_path / "d.onnx", int8=TARGETS["x86-vnni"])
    model = ModelFile(made.path).proto
    kinds = Counter(node.op_type for node in model.graph.node)
    assert (kinds["Attention"], kinds["MatMulInteger"], kinds["MatMul"], kinds["Transpose"]) == (
        LAYERS,
        6 * LAYERS,
        0,
        0,
    )
    assert len(made.notes) == 1
    assert f"{LAYERS} Attention nodes" in made.notes[0]
    assert provenance.read(model)["steps"] == made.notes[0]
    given = samples(masked)
    assert sqnr_db(outputs_of(src, given)["sentence"], outputs_of(made.path, given)["sentence"]) > 25


def test_a_node_that_is_excluded_stays_in_float(encoder: tuple[Path, bool], tmp_path: Path) -> None:
    src, masked = encoder
    products = [node.name for node in ModelFile(src).proto.graph.node if node.op_type == "MatMul"]
    plain = int8_dynamic.convert(ModelFile(src), tmp_path / "all.onnx", int8=TARGETS["x86-vnni"])
    made = int8_dynamic.convert(ModelFile(src), tmp_path / "some.onnx", int8=TARGETS["x86-vnni"], exclude=products[1:])
    model = ModelFile(made.path).proto
    kinds = Counter(node.op_type for node in model.graph.node)
    assert (kinds["MatMulInteger"], kinds["MatMul"]) == (1, len(products) - 1)
    assert {node.name for node in model.graph.node if node.op_type == "MatMul"} == set(products[1:])
    assert provenance.read(model)["float_nodes"] == ", ".join(sorted(products[1:]))
    given = samples(masked)
    expected = outputs_of(src, given)["sentence"]
    gain = [sqnr_db(expected, outputs_of(path, given)["sentence"]) for path in (plain.path, made.path)]
    assert gain[1] > gain[0]


def test_a_name_that_is_not_there_is_refused(encoder: tuple[Path, bool], tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="no_such_node"):
        int8_dynamic.convert(
            ModelFile(encoder[0]), tmp_path / "d.onnx", int8=TARGETS["x86-vnni"], exclude=["no_such_node"]
        )
    assert list(tmp_path.iterdir()) == []

"""The recurrences of transformers as scans: the values of its loops, and files of any length."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

transformers = pytest.importorskip("transformers", reason="the extra hf is not installed")

from transformers.models.mamba import modeling_mamba  # noqa: E402
from transformers.models.recurrent_gemma import modeling_recurrent_gemma  # noqa: E402
from transformers.models.rwkv import modeling_rwkv  # noqa: E402

from exporters import transformers_recurrences as ours  # noqa: E402
from toolchain.conversion import exporting  # noqa: E402
from toolchain.conversion.target import Target  # noqa: E402
from toolchain.progress import SILENT  # noqa: E402

BATCH, CHANNELS, TIME, STATES = 2, 6, 9, 4


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def close(one: Any, other: Any) -> bool:
    if isinstance(one, (tuple, list)):
        return all(close(*pair) for pair in zip(one, other, strict=True))
    return bool(torch.allclose(one, other, rtol=1e-5, atol=1e-6))


@pytest.mark.parametrize("settings", [{}, {"delta_softplus": True, "return_last_state": True}], ids=str)
@pytest.mark.parametrize("whole", [False, True])
def test_a_selective_scan(whole: bool, settings: Any) -> None:
    wide, tall = (BATCH, CHANNELS, TIME), (BATCH, STATES, TIME)
    given: dict[str, Any] = {
        "hidden_states": drawn(*wide), "dt": drawn(*wide).abs(), "A": -drawn(CHANNELS, STATES).abs(), "B": drawn(*tall),
        "C": drawn(*tall), **settings,
    }  # fmt: skip
    if whole:
        given |= {"D": drawn(CHANNELS), "z": drawn(*wide), "delta_bias": drawn(CHANNELS).abs()}
    assert close(ours._selective_scan(**given), modeling_mamba.mamba_selective_scan(**given))


@pytest.mark.parametrize("first", [None, drawn(BATCH, CHANNELS)], ids=["from nothing", "from a state"])
def test_a_linear_recurrence(first: torch.Tensor | None) -> None:
    hidden, gate = drawn(BATCH, TIME, CHANNELS), torch.sigmoid(drawn(BATCH, TIME, CHANNELS))
    reset = torch.arange(TIME)[None, :, None].expand(BATCH, -1, 1) % 4 == 0
    layer = torch.nn.Module()
    theirs = modeling_recurrent_gemma.RecurrentGemmaRglru._rnn_scan(layer, hidden, gate, reset, first)
    assert close(ours._linear_recurrence(layer, hidden, gate, reset, first), theirs)


@pytest.mark.parametrize("settings", [{}, {"return_state": True}], ids=str)
def test_linear_attention(settings: Any) -> None:
    given = (drawn(CHANNELS), drawn(CHANNELS), drawn(BATCH, TIME, CHANNELS), drawn(BATCH, TIME, CHANNELS))
    one, last = ours._linear_attention(*given, **settings)
    other, theirs = modeling_rwkv.rwkv_linear_attention(*given, **settings)
    assert close(one, other)
    assert (last is None) == (theirs is None)
    assert last is None or close(last, theirs)
    if last is not None:  # and on from there
        assert close(
            ours._linear_attention(*given, state=last)[0], modeling_rwkv.rwkv_linear_attention(*given, state=last)[0]
        )


def test_a_mamba_is_exported_at_any_length(tmp_path: Path) -> None:
    config = transformers.MambaConfig(hidden_size=16, num_hidden_layers=1, state_size=4, vocab_size=50, expand=1)
    torch.manual_seed(0)
    transformers.MambaForCausalLM(config).save_pretrained(tmp_path / "mamba")
    loop = modeling_mamba.mamba_selective_scan
    made = exporting.export_named(
        str(tmp_path / "mamba"), tmp_path / "m.onnx", arguments={}, weights=None, input_specs=(), input_data=None,
        output_names=(), target=Target(), progress=SILENT,
    )  # fmt: skip
    graph = onnx.load(made.artifact.path).graph
    assert [axis.dim_param for axis in graph.output[0].type.tensor_type.shape.dim][:2] == ["batch", "sequence"]
    assert "Scan" in {node.op_type for node in graph.node}
    assert modeling_mamba.mamba_selective_scan is loop

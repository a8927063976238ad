"""A Hugging Face folder of a text classifier, from save_pretrained() to a measured int8 file, by the real command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.end_to_end.command import run_nnx

transformers = pytest.importorskip("transformers", reason="the extra hf is not installed")


@pytest.mark.slow
def test_a_text_classifier_is_exported_quantized_and_measured(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=200,
        max_position_embeddings=64, num_labels=3,
    )  # fmt: skip
    module = transformers.BertForSequenceClassification(config).eval()
    module.save_pretrained(tmp_path / "classifier")
    random = np.random.default_rng(0)
    ids = random.integers(5, 200, (96, 24))
    mask = (np.arange(24) < random.integers(8, 25, (96, 1))).astype(np.int64)
    arrays: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    with torch.no_grad():
        logits = module(**{name: torch.from_numpy(array) for name, array in arrays.items()}).logits
    np.savez(tmp_path / "texts.npz", **arrays, labels=logits.argmax(1).numpy())

    exported = run_nnx("export", "./classifier", "-o", "m.onnx", "--json", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert "has no tokenizer" in exported.stderr
    assert json.loads(exported.stdout)["proven_on"] == "seeded values after the model's configuration"
    real = run_nnx("export", "classifier", "--input-data", "texts.npz", "-o", "real.onnx", cwd=tmp_path)
    assert real.returncode == 0, real.stderr
    quantized = run_nnx(
        "quantize", "m.onnx", "--int8", "--mode", "dynamic", "--eval", "texts.npz", "--max-drop", 5, "--no-time",
        "-o", "q.onnx", cwd=tmp_path,
    )  # fmt: skip
    assert quantized.returncode in (0, 4), quantized.stderr  # 4: 96 samples may be too few to tell
    measured = run_nnx(
        "bench", "m.onnx", "q.onnx", "--samples", "texts.npz", "--batch", 1, "--max-time", "5s", "--json", cwd=tmp_path
    )
    assert measured.returncode in (0, 4), measured.stderr  # the same
    rows = json.loads(measured.stdout)["rows"]
    assert [row["candidate"]["precision"] for row in rows] == ["fp32", "int8-dynamic"]


def test_a_folder_that_is_none_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused = run_nnx("export", "./empty", "-o", "m.onnx", cwd=tmp_path)
    assert refused.returncode == 2
    assert "empty has no config.json. Name a folder that save_pretrained() wrote." in " ".join(refused.stderr.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]

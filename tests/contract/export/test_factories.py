"""The function that makes a model."""

from pathlib import Path

import torch

from toolchain.inputs import factories


def test_weights_that_a_factory_draws_are_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text("import torch\n\n\ndef make():\n    return torch.nn.Linear(8, 4)\n")
    first, second = (factories.made(f"{tmp_path}/made.py:make", {}).module for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), second.parameters(), strict=True))

"""A factory for `nnx export`: a function that returns a module, or a module and examples of its inputs.

nnx export examples/factory.py:two_towers -o towers.onnx
nnx export examples/factory.py:encoder --input tokens=float32[1,16,32] -o encoder.onnx
"""

import torch
from torch import nn


class TwoTowers(nn.Module):
    """(N, 8) and (N, 12) -> (N,): how well the two go together."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(8, 32), nn.Linear(12, 32)

    def forward(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        fit: torch.Tensor = (self.left(user) * self.right(item)).sum(dim=1)
        return fit


def two_towers() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """With examples, whose names become those of the file's inputs: nothing else need be said on the command line."""
    torch.manual_seed(0)
    return TwoTowers(), {"user": torch.randn(2, 8), "item": torch.randn(2, 12)}


def encoder() -> nn.Module:
    """Without: `--input` says what it takes. `--weights FILE` loads a checkpoint or a state_dict into it."""
    torch.manual_seed(0)
    return nn.TransformerEncoderLayer(d_model=32, nhead=4, dim_feedforward=64, batch_first=True)

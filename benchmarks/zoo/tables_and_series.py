"""Of the zoo: an MLP, an LSTM, a GRU that is handed its state, and a temporal convolution net."""

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.zoo.attention import seeded

Tensor = torch.Tensor


def mlp() -> nn.Module:
    """(N, 64) -> (N, 10)."""
    return seeded(
        lambda: nn.Sequential(
            nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.1), nn.Linear(128, 64), nn.ReLU(),
            nn.Linear(64, 10),
        ),
        64, 64,
    )  # fmt: skip


class Tagger(nn.Module):
    """A bidirectional LSTM over (N, T, 8) -> a score for each tag and step (N, T, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 32, num_layers=2, batch_first=True, bidirectional=True, dropout=0.1)
        self.score = nn.Linear(64, 5)

    def forward(self, series: Tensor) -> Tensor:
        hidden, _ = self.lstm(series)
        scores: Tensor = self.score(hidden)
        return scores


def lstm() -> nn.Module:
    return seeded(Tagger)


class Streamed(nn.Module):
    """A GRU over (N, T, 8) that goes on from ``state`` (2, N, 32), and gives the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 32, num_layers=2, batch_first=True)
        self.forecast = nn.Linear(32, 8)

    def forward(self, series: Tensor, state: Tensor) -> dict[str, Tensor]:
        hidden, state = self.gru(series, state)
        return {"forecast": self.forecast(hidden), "next_state": state}


def gru() -> nn.Module:
    return seeded(Streamed)


class Causal(nn.Module):
    """Two dilated convolutions that see the past alone, with a residual (Bai et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.padding = 2 * dilation
        self.first = nn.utils.parametrizations.weight_norm(nn.Conv1d(inputs, outputs, 3, dilation=dilation))
        self.second = nn.utils.parametrizations.weight_norm(nn.Conv1d(outputs, outputs, 3, dilation=dilation))
        self.down = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, series: Tensor) -> Tensor:
        hidden = F.relu(self.first(F.pad(series, (self.padding, 0))))
        hidden = F.relu(self.second(F.pad(hidden, (self.padding, 0))))
        return F.relu(hidden + self.down(series))


def tcn() -> nn.Module:
    """(N, 4, T) -> (N, 3, T)."""
    return seeded(lambda: nn.Sequential(Causal(4, 16, 1), Causal(16, 16, 2), Causal(16, 16, 4), nn.Conv1d(16, 3, 1)))

"""What a data set is: three labelled splits of arrays, and how a stored batch becomes the model's input."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from toolchain.errors import BadUsage

IDS = (torch.int16, torch.int32, torch.int64)
"""Stored types of token ids and the like, which mean nothing once they are rounded; uint8 is what images have."""


@dataclass(frozen=True)
class Split:
    """``inputs`` ``(N, ...)`` as stored (uint8 images stay uint8), ``labels`` ``(N,)`` class numbers from 0; N >= 1.

    Labels of any whole type are kept as int64.
    """

    inputs: npt.NDArray[np.generic]
    labels: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        if labels.ndim != 1 or labels.dtype.kind not in "iub":
            raise BadUsage(
                f"The labels of a split are {labels.dtype}{list(labels.shape)}: training takes one class a sample.",
                "Give one whole number from 0 to K-1 for each sample.",
            )
        if labels.size and labels.min() < 0:
            raise BadUsage(f"A label is {labels.min()}.", "Classes count from 0.")
        object.__setattr__(self, "labels", labels.astype(np.int64, copy=False))
        if not len(self.inputs) == len(self.labels) > 0:
            raise BadUsage(
                f"A split of the data has {len(self.inputs)} inputs and {len(self.labels)} labels.",
                "Train, validation and test each need at least one labelled sample.",
            )

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Scale:
    """Stored values -> float32 model input: ``(x / divisor - mean) / std``, mean and std per channel of (N, C, ...).

    Without any of these, whole numbers of 16 bits and more, which are ids, stay whole.
    """

    divisor: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        if self == Scale():
            return batch if batch.dtype in IDS else batch.float()
        values = batch.to(torch.float32, copy=True)  # scaled in place below, and `batch` is somebody's data
        shape = (1, -1) + (1,) * (batch.ndim - 2)
        mean = torch.tensor(self.mean, device=batch.device).view(shape)
        std = torch.tensor(self.std, device=batch.device).view(shape)
        # one multiplication and one addition per element, in place
        return values.mul_(1 / (self.divisor * std)).sub_(mean / std)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Validation chooses the checkpoint, train feeds calibration, test is for reporting alone."""

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    scale: Scale = Scale()

    def model_inputs(self, split: Split, rows: slice | npt.NDArray[np.int64] = slice(None)) -> npt.NDArray[np.generic]:
        """The chosen rows as the model takes them, ``(N, ...)``: float32, ids as they are."""
        result: npt.NDArray[np.generic] = self.scale(torch.from_numpy(split.inputs[rows].copy())).numpy()
        return result


class DataSource(Protocol):
    """Names a data set without reading it, so that an unchanged one need not be read again."""

    def digest(self) -> str:
        """Changes whenever the content does."""

    def load(self) -> Dataset:
        """Read it whole; raise BadUsage when files are missing or unfit."""

    def save_preprocessing(self, folder: Path) -> list[Path]:
        """Write beside the model what a device needs to make its inputs beyond the scale; return the files."""


def shuffled_parts(count: int, first_share: float, *, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split ``range(count)`` at random into ``first_share`` of it and the rest."""
    order = np.random.default_rng(seed).permutation(count)
    cut = round(count * first_share)
    return order[:cut], order[cut:]


def digest_of_files(paths: Iterable[Path], root: Path) -> str:
    """SHA-256 over the relative names and the contents of ``paths``, in sorted order."""
    state = hashlib.sha256()
    for path in sorted(paths):
        state.update(f"{path.relative_to(root).as_posix()}\0".encode())
        state.update(hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()

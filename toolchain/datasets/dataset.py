"""What a data set is: three splits of samples with their targets, and how a stored batch becomes the model's input."""

import hashlib
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from toolchain.datasets.bad_samples import BadSamples
from toolchain.datasets.on_demand import Half, OnDemand
from toolchain.errors import BadUsage

if TYPE_CHECKING:
    import torch  # which takes a second, and quantizing on arrays does without

Array = npt.NDArray[np.generic]
Column = Any
"""A value for each of N samples: an array ``(N, ...)``, which may be memory-mapped, or whatever has a length and gives
the sample at a place: a list of arrays of unequal shapes, texts, an object that reads a file when it is asked."""
Columns = Any
"""A column, or several in a dict by name."""


@dataclass(frozen=True)
class Split:
    """``inputs`` and ``targets`` of N >= 1 samples, as stored (uint8 images stay uint8); several are a dict by name.

    Class numbers ``(N,)`` of any whole type are kept as int64.
    """

    inputs: Columns
    targets: Columns
    _count: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        inputs, targets = (_stored(columns) for columns in (self.inputs, self.targets))
        if isinstance(targets, np.ndarray) and targets.ndim == 1 and targets.dtype.kind in "iub":
            targets = targets.astype(np.int64, copy=False)
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "targets", targets)
        both = [columns_of(columns) for columns in (inputs, targets)]
        counts = [len(column) for columns in both for column in columns.values()]
        if not all(both) or len(set(counts)) != 1 or not counts[0]:
            columns = {**columns_of(inputs, "inputs"), **columns_of(targets, "targets")}
            what = " and ".join(f"{len(column):,} {name}" for name, column in columns.items())
            raise BadUsage(
                f"A split of the data has {what or 'no inputs and no targets'}.",
                "Train, validation and test each need at least one sample, and every sample all inputs and targets.",
            )
        object.__setattr__(self, "_count", counts[0])

    @classmethod
    def on_demand(cls, reader: OnDemand) -> "Split":
        """Of samples that are read when they are asked for."""
        return cls(Half(reader, 0), Half(reader, 1) if reader.labels is None else reader.labels)

    @property
    def reader(self) -> OnDemand | None:
        """What gives whole samples, several at once, where they are read on demand."""
        return self.inputs.samples if isinstance(self.inputs, Half) else None

    def __len__(self) -> int:
        return self._count

    def rows(self, chosen: npt.NDArray[np.int64]) -> "Split":
        """Only these samples."""
        if self.reader is not None:
            return Split.on_demand(self.reader.rows(chosen))
        return Split(_taken(self.inputs, chosen), _taken(self.targets, chosen))


def columns_of(columns: Columns, name: str = "") -> Mapping[str, Column]:
    """By name; ``name`` is that of a column that stands alone."""
    return columns if isinstance(columns, Mapping) else {name: columns}


def _taken(columns: Columns, chosen: npt.NDArray[np.int64]) -> Columns:
    if isinstance(columns, Mapping):
        return {name: _taken(column, chosen) for name, column in columns.items()}
    return columns[chosen] if isinstance(columns, np.ndarray) else [columns[int(row)] for row in chosen]


def _stored(columns: Any) -> Any:
    """Tensors and lists of numbers as arrays."""
    if isinstance(columns, Mapping):
        return {name: _stored(column) for name, column in columns.items()}
    if "torch" in sys.modules and isinstance(columns, sys.modules["torch"].Tensor):
        return columns.detach().cpu().numpy()
    if isinstance(columns, np.ndarray):
        if not columns.ndim:
            raise BadUsage("A split of the data holds one value, and no samples.", "Give an array (N, ...).")
        return columns
    if isinstance(columns, (list, tuple)) and all(isinstance(value, (int, float, np.number)) for value in columns):
        return np.asarray(columns)
    if isinstance(columns, str) or not hasattr(columns, "__len__") or not hasattr(columns, "__getitem__"):
        raise BadUsage(
            f"A split of the data holds a {type(columns).__name__}.", "Give arrays (N, ...), or lists of N samples."
        )
    return columns


def holds_ids(tensor: "torch.Tensor") -> bool:
    """Whether its type is one of ids and masks, which mean nothing once they are rounded; uint8 is what images have."""
    import torch

    return tensor.dtype in (torch.int16, torch.int32, torch.int64, torch.bool)


@dataclass(frozen=True)
class Scale:
    """Stored values -> float32 model input: ``(x / divisor - mean) / std``, mean and std per channel of (N, C, ...).

    Without any of these, whole numbers of 16 bits and more, which are ids, stay whole, and truth values true or false.
    """

    divisor: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for name, values in (("divisor", (self.divisor,)), ("std", self.std)):
            wrong = [place for place, value in enumerate(values) if not (value > 0 and math.isfinite(value))]
            if wrong:
                place = f" of channel {wrong[0]}" if len(values) > 1 else ""
                raise BadUsage(
                    f"The {name} of a Scale{place} is {values[wrong[0]]}: what is divided by it is NaN or infinite.",
                    "Leave out a channel that never changes, or give 1.",
                )
        if not all(map(math.isfinite, self.mean)):
            raise BadUsage("A mean of a Scale is NaN or infinite.", "Look for NaN in the data that it was taken of.")

    @classmethod
    def of(cls, values: npt.NDArray[np.floating[Any]]) -> "Scale":
        """Of ``values`` ``(N, C, ...)``: mean 0 and deviation 1 in each channel, 0 throughout where it is constant."""
        axes = tuple(axis for axis in range(values.ndim) if axis != 1)
        mean, std = (np.atleast_1d(found(values, axis=axes, dtype=np.float64)) for found in (np.mean, np.std))
        return cls(mean=tuple(mean.tolist()), std=tuple(np.where(std > 0, std, 1.0).tolist()))

    def __call__(self, batch: "torch.Tensor") -> "torch.Tensor":
        import torch

        if self == Scale():
            return batch if holds_ids(batch) else batch.float()
        values = batch.to(torch.float32, copy=True)  # scaled in place below, and `batch` is somebody's data
        shape = (1, -1) + (1,) * (batch.ndim - 2) if batch.ndim > 1 else (-1,)
        mean = torch.tensor(self.mean, device=batch.device).view(shape)
        std = torch.tensor(self.std, device=batch.device).view(shape)
        # one multiplication and one addition per element, in place
        return values.mul_(1 / (self.divisor * std)).sub_(mean / std)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Validation chooses the checkpoint, train feeds calibration, test is for reporting alone.

    ``scale`` is that of the only input, or each input's by its name; one that has none is taken as it is. ``texts`` are
    the sentences of which the test inputs were made, where they were made of any. ``bad`` is what could not be read.
    """

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...] = ()
    scale: Scale | Mapping[str, Scale] = Scale()
    texts: tuple[str, ...] = ()
    bad: BadSamples = field(default_factory=BadSamples)

    @classmethod
    def shuffled(
        cls,
        inputs: Columns,
        targets: Columns,
        *,
        seed: int = 0,
        classes: tuple[str, ...] = (),
        standardize: bool = False,
    ) -> "Dataset":
        """60 % of the samples for training, 20 % for validation, 20 % for the test, drawn once with ``seed``.

        With ``standardize`` every input of floats is scaled by the mean and deviation of its training samples.
        """
        whole = Split(inputs, targets)
        chosen, rest = shuffled_parts(len(whole), 0.6, seed=seed)
        parts = [whole.rows(rows) for rows in (chosen, *np.array_split(rest, 2))]
        scale: Scale | Mapping[str, Scale] = Scale()
        if standardize:
            scales = {
                name: Scale.of(column)
                for name, column in columns_of(parts[0].inputs).items()
                if isinstance(column, np.ndarray) and column.dtype.kind == "f"
            }
            scale = scales if isinstance(inputs, Mapping) else scales.get("", scale)
        return cls(train=parts[0], validation=parts[1], test=parts[2], classes=classes, scale=scale)

    @property
    def splits(self) -> Mapping[str, Split]:
        """By name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


class DataSource(Protocol):
    """Names a data set without reading it, so that an unchanged one need not be read again."""

    def digest(self) -> str:
        """Changes whenever the content does."""

    def load(self) -> Dataset:
        """Read it whole; raise BadUsage when files are missing or unfit."""

    def save_preprocessing(self, folder: Path) -> list[Path]:
        """Write beside the model what a device needs to make its inputs (:mod:`.preparation`); return the files."""


@dataclass(frozen=True)
class Made:
    """The data source that a function is: ``load`` makes the data set, whose ``name`` changes whenever it does."""

    name: str
    load: Callable[[], Dataset]

    def digest(self) -> str:
        return self.name

    def save_preprocessing(self, folder: Path) -> list[Path]:
        """Nothing: what a picture or a sentence would have to become is not known."""
        return []


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

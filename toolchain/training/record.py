"""``training.json``: what a training run was asked for, and what each epoch came to."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from toolchain import strict_json
from toolchain.records import Form

FORM = Form(
    name="what `nnx train` writes",
    again="Train again, or remove it.",
    room="toolchain.training",
    schema="training.schema.json",
    infinities=True,
)


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch's figures; accuracies are shares from 0 to 1, ``seconds`` are training alone, validation apart."""

    number: int
    loss: float
    train_accuracy: float
    validation_accuracy: float
    seconds: float
    samples_per_s: float


@dataclass(frozen=True, kw_only=True)
class History:
    """A run so far; ``options`` are the fields of :class:`toolchain.training.options.TrainingOptions`."""

    options: Mapping[str, Any]
    epochs: tuple[Epoch, ...]

    @property
    def device(self) -> str:
        """cpu or cuda."""
        return str(self.options["device"])

    def to_json(self) -> str:
        """What the schema describes."""
        return json.dumps(strict_json.finite(asdict(self)), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "History":
        """Read what :meth:`to_json` wrote; raise BadUsage for what is not as described."""
        return FORM.read(cls, text)


def best(epochs: Sequence[Epoch]) -> Epoch:
    """The first of those with the highest validation accuracy."""
    return max(epochs, key=lambda epoch: epoch.validation_accuracy)

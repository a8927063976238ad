"""``training.json``: what a training run was asked for, and what each epoch came to."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from toolchain import strict_json
from toolchain.accuracy.metrics.built_in import TOP1
from toolchain.accuracy.metrics.metric import Measure
from toolchain.records import Form

_FORMER = {"train_accuracy": "train_score", "validation_accuracy": "validation_score"}
"""What nnx called the scores while accuracy was the only one."""


def of_former(content: Any) -> Any:
    """What an earlier version wrote, with the scores, which were accuracies, by their names of now."""
    if isinstance(content, dict):
        return {_FORMER.get(key, key): of_former(value) for key, value in content.items()}
    return [of_former(value) for value in content] if isinstance(content, (list, tuple)) else content


FORM = Form(
    name="what `nnx train` writes",
    again="Train again, or remove it.",
    room="toolchain.training",
    schema="training.schema.json",
    infinities=True,
    of_former=of_former,
)


ACCURACY = TOP1.measure
"""What there was before any other metric."""


def told(measure: Measure, score: float | None) -> str:
    """A score as a table has it."""
    return "–" if score is None else measure.value(score)


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch's figures; scores are the metric's, ``seconds`` are training alone, validation apart.

    A ``train_score`` is known of one class of several a sample; a ``validation_score`` is None where it is undefined.
    """

    number: int
    loss: float
    train_score: float | None
    validation_score: float | None
    seconds: float
    samples_per_s: float


@dataclass(frozen=True, kw_only=True)
class History:
    """A run so far; ``options`` are the fields of :class:`toolchain.training.options.TrainingOptions`.

    ``restarted_after`` is the epoch after which the schedule of the learning rate began anew, for more epochs than were
    asked for at first; 0 where it did not. ``processes`` trained the last epoch together. ``skipped`` says of each
    sample that could not be read which it is and why.
    """

    options: Mapping[str, Any]
    epochs: tuple[Epoch, ...]
    measure: Measure = ACCURACY
    restarted_after: int = 0
    processes: int = 1
    skipped: tuple[str, ...] = ()

    @property
    def device(self) -> str:
        """cpu or cuda."""
        return str(self.options["device"])

    @property
    def best(self) -> Epoch:
        """The epoch whose weights are kept."""
        return best(self.epochs, self.measure)

    def to_json(self) -> str:
        """What the schema describes."""
        return json.dumps(strict_json.finite(asdict(self)), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "History":
        """Read what :meth:`to_json` wrote; raise BadUsage for what is not as described."""
        return FORM.read(cls, text)


def best(epochs: Sequence[Epoch], measure: Measure) -> Epoch:
    """The first of those with the best validation score."""

    def worth(epoch: Epoch) -> float:
        if epoch.validation_score is None:
            return -float("inf")
        return epoch.validation_score if measure.higher_is_better else -epoch.validation_score

    return max(epochs, key=worth)

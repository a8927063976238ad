"""``ablation.json``: what each training switch gained over the plain loop."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from toolchain import strict_json
from toolchain.accuracy.metrics.metric import Measure
from toolchain.records import Form
from toolchain.stats import Interval
from toolchain.training.record import ACCURACY, of_former

SCHEMA_VERSION = 1
FORM = Form(
    name="what `nnx train --ablate` writes",
    again="Run it again, or remove it.",
    room="toolchain.ablation",
    schema="ablation.schema.json",
    infinities=True,
    of_former=of_former,
)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One loop's figures. ``steps_ms`` and ``parts_s`` hold one entry a round; gains are over the plain loop.

    They are None where that could not run; the ``validation_score``, at the end, where it is not defined.
    """

    name: str
    switched_on: tuple[str, ...]
    steps_ms: tuple[tuple[float, ...], ...]
    parts_s: tuple[float, ...]
    epochs: int
    validation_score: float | None
    first_step_s: float
    step_gain: Interval | None
    epoch_gain: Interval | None

    @property
    def step_ms(self) -> float:
        """The median over all steps."""
        return float(np.median([step for block in self.steps_ms for step in block]))

    @property
    def epoch_s(self) -> float:
        """Wall time of one epoch, data included, validation apart."""
        return sum(self.parts_s) / self.epochs


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """All loops of one run on one machine; the options are those of every loop but for the switches."""

    recipe: str
    options: Mapping[str, Any]
    machine: Mapping[str, Any]
    variants: tuple[Variant, ...]
    dropped: Mapping[str, str]
    measure: Measure = ACCURACY

    def to_json(self) -> str:
        """What the schema describes. JSON has no infinity: the ends of an interval that has none become null."""
        entries = [
            {**asdict(variant), "step_ms": variant.step_ms, "epoch_s": variant.epoch_s} for variant in self.variants
        ]
        content = {"schema_version": SCHEMA_VERSION, **asdict(self), "variants": entries}
        return json.dumps(strict_json.finite(content), allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Ablation":
        """Read what :meth:`to_json` wrote; raise BadUsage for another version, and for what is not as described."""
        return FORM.read(cls, text)

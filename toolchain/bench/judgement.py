"""What is said of a benchmarked row besides its times, and who says it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from toolchain.accuracy.status import Status
from toolchain.bench.record import Row
from toolchain.stats import Interval

Outputs = tuple[npt.NDArray[np.generic], ...]
"""In the model's order: ``(S, ...)``, or ``(batches, ...)`` where the model gives no row for each sample."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What is known of a row besides its times; the fields are those of :class:`Row`."""

    status: Status = Status.OK
    reason: str = ""
    accuracy: Interval | None = None
    drop: Interval | None = None
    parity: str | None = None

    def on(self, row: Row) -> Row:
        """The row with this judgement."""
        return replace(
            row, status=self.status, reason=self.reason, accuracy=self.accuracy, drop=self.drop, parity=self.parity
        )


Judge = Callable[[Row, Outputs, "tuple[Row, Outputs] | None"], Judgement]
"""(row, outputs, the baseline and its outputs, None for itself) -> what is known of the row."""

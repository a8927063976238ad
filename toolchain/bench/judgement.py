"""What is said of a benchmarked row besides its times, and who says it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from toolchain.accuracy.metrics.metric import Measure
from toolchain.accuracy.output_values import Calls
from toolchain.accuracy.status import Status
from toolchain.bench.record import Row
from toolchain.stats import Interval

Outputs = Calls
"""Of each call, in the model's order; the sum of the calls is all samples."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What is known of a row besides its times; the fields are those of :class:`Row`."""

    status: Status = Status.OK
    reason: str = ""
    accuracy: Interval | None = None
    drop: Interval | None = None
    parity: str | None = None
    metric: Measure | None = None

    def on(self, row: Row) -> Row:
        """The row with this judgement."""
        return replace(
            row,
            status=self.status,
            reason=self.reason,
            accuracy=self.accuracy,
            drop=self.drop,
            parity=self.parity,
            metric=self.metric,
        )


Judge = Callable[[Row, Outputs, "tuple[Row, Outputs] | None"], Judgement]
"""(row, outputs, the baseline and its outputs, None for itself) -> what is known of the row."""

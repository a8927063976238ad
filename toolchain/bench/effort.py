"""How long a benchmark measures."""

import math
from dataclasses import dataclass, replace

from toolchain.errors import BadUsage

_SPIN_S = 0.06
"""How long ONNX Runtime's threads wait busily after a row's last run (40 to 50 ms; PyTorch's 12): the next row warms up
at least as long, so that no idle row holds a processor while another is timed."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long to measure.

    At least ``min_rounds`` rounds, in each at least ``min_runs`` runs and ``seconds`` a row after ``warm_up_s``; then
    on until each speed-up's interval is within ``precision`` either way, or ``max_time_s`` is over for the rows that
    take turns. Where that many rounds would not fit in ``max_time_s``, turns are shorter, and where ``min_runs`` do not
    allow that, rounds are fewer, two at least. A row that takes longer than ``timeout_s`` to load, to run once, or for
    its runs beyond ``seconds``, is given up.

    Planned from 5 rounds, intervals covered up to a point less often than from 8 (see
    :func:`toolchain.stats.ratio_of_medians`).
    """

    min_rounds: int = 8
    min_runs: int = 10
    seconds: float = 1.0
    warm_up_s: float = 0.1
    precision: float = 0.02
    max_time_s: float = 60.0
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        least = {"min_rounds": 1, "min_runs": 1, "seconds": 0, "warm_up_s": 0, "max_time_s": 0}
        for name, bound in least.items():
            if not bound <= getattr(self, name) < math.inf:
                raise BadUsage(f"{name} is {getattr(self, name)}.", f"Give a number from {bound} on.")
        for name in ("precision", "timeout_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise BadUsage(f"{name} is {getattr(self, name)}.", "Give a number above 0.")

    def for_rows(self, count: int) -> "Effort":
        """With turns short enough for ``min_rounds`` rounds of ``count`` rows in ``max_time_s``."""
        whole = count * self.min_rounds * (self.seconds + self.warm_up_s)
        share = min(1.0, self.max_time_s / whole) if whole else 1.0
        warm_up_s = max(self.warm_up_s * share, min(self.warm_up_s, _SPIN_S))
        return replace(self, seconds=self.seconds * share, warm_up_s=warm_up_s)

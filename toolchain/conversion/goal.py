"""What a conversion must keep, and how long it may look for a way to."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporters.calibration.thresholds import Method
from toolchain.accuracy.gate import Requirement
from toolchain.accuracy.metrics.built_in import TOP1
from toolchain.accuracy.metrics.metric import Metric


@dataclass(frozen=True, kw_only=True)
class Goal:
    """``requirement`` None refuses only what is plainly broken; ``metric`` is what labels are judged by; ``budget_s`` 0
    does not search, and ``trials`` sets are judged at most.

    ``exclude`` stays in float in any case, and ``methods``, calibration methods by tensor, hold.
    """

    requirement: Requirement | None = None
    metric: Metric = TOP1
    budget_s: float = 0.0
    trials: int | None = None
    exclude: tuple[str, ...] = ()
    methods: Mapping[str, Method] = field(default_factory=dict)


def default_budget_s(requirement: Requirement | None) -> float:
    """How long to search where nobody says: where nothing is required a file that is plainly broken is worth a try."""
    return 60.0 if requirement is None else 600.0

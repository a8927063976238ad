"""What a search for the nodes that stay in float leaves: its plan, and its journal until it has ended."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from exporters.calibration.thresholds import Method
from toolchain.accuracy.gate import Verdict
from toolchain.records import Form

SCHEMA_VERSION = 1
PLAN = "nnx-quantization-plan"
JOURNAL = "nnx-search-journal"
PLAN_FORM = Form(
    name="a plan",
    again="Mend it, or give one that nnx wrote with --save-plan.",
    room="toolchain.conversion",
    schema="plan.schema.json",
)
JOURNAL_FORM = Form(
    name="a search's journal",
    again="Search again.",
    room="toolchain.conversion",
    schema="journal.schema.json",
    infinities=True,
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a search found, to be replayed without it.

    ``exclude`` are the nodes that stay in float, most damaging first; ``verdict`` is the gate's sentence about it;
    ``evaluations`` counts the sets that were judged; ``finished`` is false when the budget ended first, so that fewer
    nodes might do. ``methods`` gives a calibration method by tensor, ``options`` what else was chosen.
    """

    exclude: tuple[str, ...]
    verdict: str = ""
    evaluations: int = 0
    finished: bool = True
    methods: Mapping[str, Method] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """What the schema describes."""
        return _written(PLAN, asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Plan":
        """Read what :meth:`to_json` wrote, or a user by hand: ``exclude`` alone will do. BadUsage for anything else."""
        return PLAN_FORM.read(cls, text)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One set of nodes in float, and what the gate said of it."""

    excluded: tuple[str, ...]
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Journal:
    """What a search has tried so far; ``key`` is a digest of all that its verdicts depend on."""

    key: str
    trials: tuple[Trial, ...]

    def to_json(self) -> str:
        """What the schema describes. For nnx alone, so infinities stay: an exact model's SQNR is one."""
        return _written(JOURNAL, asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Journal":
        """Read what :meth:`to_json` wrote; raise BadUsage for anything else."""
        return JOURNAL_FORM.read(cls, text)


def _written(kind: str, content: Mapping[str, Any]) -> str:
    return json.dumps({"kind": kind, "schema_version": SCHEMA_VERSION, **content}, indent=1) + "\n"

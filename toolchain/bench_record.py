"""What a benchmark is about and what it found: candidates, rows, the whole, and its JSON."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from toolchain.errors import BadUsage
from toolchain.stats import Interval, percentile

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One thing to run.

    ``runtime`` is a key of ``runtimes.registry.RUNTIMES``, ``model`` a file, or a recipe's name for
    the torch runtimes with its ``weights``; ``output`` names the module's output."""

    label: str
    runtime: str
    precision: str
    model: str
    sha256: str
    size_bytes: int
    weights: str | None = None
    output: str = "output"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One column of circumstances: rows are compared only inside the same setting."""

    provider: str
    batch: int
    threads: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """One candidate in one setting.

    ``status`` is ``ok``, ``unavailable`` (not to be had here), ``failed`` (crashed or refused), or ``unproven``
    (ran, but
    its outputs do not agree with the baseline's); ``reason`` says why for all but ``ok``. ``rounds_ms`` are the raw
    latencies, one list a round. ``speedup`` is over ``baseline`` in the same setting. ``provider_share`` is the
    share of graph nodes on the wanted provider, None for PyTorch. ``peak_memory_bytes`` is that of the whole process.
    """

    candidate: Candidate
    setting: Setting
    status: str = "ok"
    reason: str = ""
    load_ms: float | None = None
    first_run_ms: float | None = None
    rounds_ms: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    baseline: str | None = None
    speedup: Interval | None = None
    accuracy: Interval | None = None
    parity: str | None = None
    peak_memory_bytes: int | None = None
    provider_share: float | None = None

    @property
    def runs(self) -> int:
        """How many runs were timed."""
        return sum(len(block) for block in self.rounds_ms)

    def latency_ms(self, q: float) -> float | None:
        """The ``q``-th percentile over all runs, None for a row that did not run."""
        runs = [sample for block in self.rounds_ms for sample in block]
        return percentile(runs, q) if runs else None

    @property
    def throughput_per_s(self) -> float | None:
        """Samples a second at the median latency."""
        median = self.latency_ms(50)
        return self.setting.batch / median * 1e3 if median else None


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A whole run: where, when (ISO 8601, UTC), on which data, and its rows."""

    machine: dict[str, Any]
    created: str
    data: str
    rows: tuple[Row, ...]

    def to_json(self) -> str:
        rows = []
        for row in self.rows:
            entry = asdict(row)
            entry["latency_ms"] = {f"p{q}": row.latency_ms(q) for q in (50, 90, 99)} if row.rounds_ms else None
            entry["throughput_per_s"] = row.throughput_per_s
            entry["rounds_ms"] = [[round(sample, 5) for sample in block] for block in row.rounds_ms]
            rows.append(entry)
        content = {
            "schema_version": SCHEMA_VERSION,
            "created": self.created,
            "machine": self.machine,
            "data": self.data,
            "rows": rows,
        }
        return json.dumps(content) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Benchmark":
        """Read what :meth:`to_json` wrote; raise BadUsage for another schema version or anything else."""
        try:
            content = json.loads(text)
            version = content["schema_version"]
            if version != SCHEMA_VERSION:
                raise BadUsage(
                    f"The benchmark has schema version {version}, this nnx reads {SCHEMA_VERSION}.",
                    "Run the bench again.",
                )
            return cls(
                machine=content["machine"],
                created=content["created"],
                data=content["data"],
                rows=tuple(_row(entry) for entry in content["rows"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise BadUsage("The file is not a benchmark of nnx.", "Run the bench again.") from error


def _row(entry: dict[str, Any]) -> Row:
    known = {name: entry[name] for name in Row.__dataclass_fields__}
    for name in ("speedup", "accuracy"):
        known[name] = Interval(**known[name]) if known[name] else None
    known["candidate"] = Candidate(**known["candidate"])
    known["setting"] = Setting(**known["setting"])
    known["rounds_ms"] = tuple(tuple(block) for block in known["rounds_ms"])
    return Row(**known)

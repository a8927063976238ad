"""What a benchmark is about and what it found: candidates, settings, rows, the whole, and its JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from toolchain import strict_json
from toolchain.accuracy.metrics.metric import Measure
from toolchain.accuracy.status import Status
from toolchain.records import Form
from toolchain.stats import Interval, percentile

SCHEMA_VERSION = 2
_LEAST_MS = 1e-5
"""The last digit that is written of a latency."""


def of_former(content: Any) -> Any:
    """What an earlier version wrote, of modules that had one ``output``, with its name among ``outputs``."""
    rows = content.get("rows") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        return content
    return {**content, "rows": [_with_outputs(row) for row in rows]}


def _with_outputs(row: Any) -> Any:
    candidate = row.get("candidate") if isinstance(row, dict) else None
    if not isinstance(candidate, dict) or not isinstance(candidate.get("output"), str):
        return row
    others = {key: value for key, value in candidate.items() if key != "output"}
    return {**row, "candidate": {**others, "outputs": [candidate["output"]]}}


FORM = Form(
    name="a benchmark of nnx",
    again="Run the bench again.",
    room="toolchain.bench",
    schema="bench.schema.json",
    of_former=of_former,
)


def schema() -> str:
    """The JSON Schema of :meth:`Benchmark.to_json`, which ``nnx bench`` writes."""
    return FORM.schema_text()


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One thing to run.

    ``runtime`` is a key of ``runtimes.registry.RUNTIMES``, ``model`` a file, or a recipe's name for
    the torch runtimes with its ``weights``; ``outputs`` names the module's outputs."""

    label: str
    runtime: str
    precision: str
    model: str
    sha256: str
    size_bytes: int
    weights: str | None = None
    outputs: tuple[str, ...] = ("output",)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where and how a candidate runs.

    ``provider`` is a key of ``runtimes.registry.PROVIDERS``, ``options`` are its own. ``concurrency`` is the number of
    streams that call the model at once, ``copies`` (include, exclude) whether inputs and outputs travel to and from a
    device inside the clock, ``cpus`` the processors that the row is pinned to (empty: all), ``python`` another
    interpreter that runs it (None: nnx's own), ``host`` the address of the machine that it runs on (None: this one).
    """

    provider: str
    batch: int
    threads: int
    options: tuple[tuple[str, str], ...] = ()
    concurrency: int = 1
    copies: str = "include"
    cpus: tuple[int, ...] = ()
    python: str | None = None
    host: str | None = None

    def written(self) -> dict[str, Any]:
        """As JSON has it."""
        entry = asdict(self)
        if self.host is None:
            del entry["host"]
        return {**entry, "options": dict(self.options)}

    @property
    def where(self) -> str:
        """The provider with its options, as ``--provider`` takes it."""
        options = ",".join(f"{name}={value}" for name, value in self.options)
        return f"{self.provider}:{options}" if options else self.provider

    @property
    def circumstances(self) -> "Circumstances":
        """What rows must have in common to be compared."""
        return Circumstances(
            batch=self.batch, threads=self.threads, concurrency=self.concurrency, copies=self.copies, cpus=self.cpus,
            host=self.host,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """Rows with the same ones take turns with each other, whatever their provider, and are compared."""

    batch: int
    threads: int
    concurrency: int
    copies: str
    cpus: tuple[int, ...]
    host: str | None = None

    def __str__(self) -> str:
        parts = [f"batch {self.batch}", f"{self.threads} thread{'s' if self.threads > 1 else ''}"]
        if self.concurrency > 1:
            parts.append(f"{self.concurrency} streams")
        if self.copies != "include":
            parts.append("without copies")
        return ", ".join(parts) + (f" on {shown_host(self.host)}" if self.host else "")


LOCAL = "local"
"""What this machine is called among hosts."""


def shown_host(host: str | None) -> str:
    """A host as a table calls it: its address without what all have."""
    return LOCAL if host is None else host.removeprefix("ssh://")


@dataclass(frozen=True, kw_only=True)
class NodeShare:
    """One executed node, or operator of PyTorch: its time in a run, and its share (0 to 1) of all nodes' time."""

    name: str
    op_type: str
    provider: str
    precision: str
    mean_us: float
    share: float


@dataclass(frozen=True, kw_only=True)
class Unfused:
    """A node of a QDQ model that did not become part of an int8 kernel, its share of the time, and why it is listed."""

    name: str
    op_type: str
    share: float
    why: str


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Where a row's time goes, from a run of its own under the backend's profiler, outside the timed rounds.

    ``nodes`` in the order of the graph, ``op_types`` their shares by operator, the largest first. ``copies`` counts
    nodes that copy between devices, ``casts`` those that the backend put in to change a number's type. ``advice`` is
    one plain sentence.
    """

    run_us: float
    nodes: tuple[NodeShare, ...]
    op_types: Mapping[str, float]
    copies: int
    casts: int
    unfused: tuple[Unfused, ...]
    advice: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One candidate in one setting.

    ``status`` is ``ok``, ``unavailable`` (not to be had here), ``failed`` (crashed or refused), ``undecided`` (ran, but
    the samples are too few to tell whether it loses more accuracy than allowed), or ``unproven`` (ran, but its outputs
    do not agree with the baseline's, or it loses more than allowed); ``reason`` says why for all but ``ok``.
    ``rounds_ms`` are raw latencies, one list a round, of all streams; of a round with very many runs an evenly spaced
    part. ``rounds_s`` are the rounds' durations and ``rounds_runs`` the runs in each. ``speedup`` is over the row named
    ``baseline`` in the same circumstances: of latency, or of throughput where several streams run. ``repeats`` marks
    the baseline measured once more, whose speed-up shows what this machine cannot tell apart. ``accuracy`` is the
    score of ``metric``, of top-1 answers where that is None, and then a share; ``drop`` is what of it is lost against
    the baseline on the same samples, positive being worse. ``nodes`` counts graph nodes by provider,
    empty for PyTorch. ``peak_memory_bytes`` is that of the whole process, ``device_memory_bytes`` what the row takes on
    a device of its own. ``shapes`` are those of the inputs at a run. ``facts`` are what the backend says of itself:
    version, TF32, CUDA graphs, device.
    """

    candidate: Candidate
    setting: Setting
    status: Status = Status.OK
    reason: str = ""
    repeats: bool = False
    load_ms: float | None = None
    first_run_ms: float | None = None
    rounds_ms: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    rounds_s: tuple[float, ...] = ()
    rounds_runs: tuple[int, ...] = ()
    baseline: str | None = None
    speedup: Interval | None = None
    accuracy: Interval | None = None
    drop: Interval | None = None
    parity: str | None = None
    metric: Measure | None = None
    peak_memory_bytes: int | None = None
    device_memory_bytes: int | None = None
    nodes: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    profile: Profile | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What tells the row from others in the same circumstances."""
        again = " again" if self.repeats else ""
        interpreter = f" ({self.setting.python})" if self.setting.python else ""
        return f"{self.candidate.label}{again} on {self.setting.where}{interpreter}"

    @property
    def runs(self) -> int:
        """How many runs were timed."""
        return sum(self.rounds_runs)

    @property
    def emulated(self) -> str:
        """What its host emulates on what, empty for a machine that is none other: then its times are a device's."""
        return self.facts.get("emulated", "")

    def latency_ms(self, q: float) -> float | None:
        """The ``q``-th percentile over all runs, None for a row that did not run."""
        runs = [sample for block in self.rounds_ms for sample in block]
        return percentile(runs, q) if runs else None

    @property
    def rounds_per_s(self) -> tuple[float, ...]:
        """Samples a second in each round."""
        return tuple(
            runs * self.setting.batch / seconds
            for runs, seconds in zip(self.rounds_runs, self.rounds_s, strict=True)
            if seconds
        )

    @property
    def throughput_per_s(self) -> float | None:
        """Samples a second: at the median latency of one stream, the rounds' median where several run."""
        if self.setting.concurrency > 1:
            return percentile(self.rounds_per_s, 50) if self.rounds_per_s else None
        median = self.latency_ms(50)
        return self.setting.batch / median * 1e3 if median else None


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A whole run: where, when (ISO 8601, UTC), by which command, on which data, how hard, its rows and warnings.

    ``machine`` is the one that ran nnx, ``hosts`` the others that rows ran on, by their addresses, described alike.
    One that is not ``complete`` was kept while the rounds went: its rows need not be judged, nor have all their rounds.
    """

    machine: dict[str, Any]
    created: str
    data: str
    rows: tuple[Row, ...]
    command: tuple[str, ...] = ()
    effort: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    complete: bool = True
    hosts: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def machines(self) -> Mapping[str, Mapping[str, Any]]:
        """Those that rows ran on, by what they are called; without any rows the one that ran nnx."""
        here = not self.rows or any(row.setting.host is None for row in self.rows)
        return {**({LOCAL: self.machine} if here else {}), **self.hosts}

    def machine_of(self, row: Row) -> Mapping[str, Any]:
        """The description of the machine that ``row`` ran on."""
        return self.machine if row.setting.host is None else self.hosts.get(row.setting.host, {})

    def to_json(self) -> str:
        """What the schema describes. JSON has no infinity: the ends of an interval that has none become null."""
        rows = []
        for row in self.rows:
            entry = asdict(replace(row, rounds_ms=()))
            if row.metric is None:
                del entry["metric"]
            entry["setting"] = row.setting.written()
            entry["latency_ms"] = {f"p{q}": row.latency_ms(q) for q in (50, 90, 99)} if row.rounds_ms else None
            entry["throughput_per_s"] = row.throughput_per_s
            # by themselves: a search for infinities in the samples of a long bench takes 0.2 s each time
            rows.append({**strict_json.finite(entry), "rounds_ms": [_written(block) for block in row.rounds_ms]})
        facts = strict_json.finite(asdict(replace(self, rows=())))
        if not self.hosts:
            del facts["hosts"]
        return json.dumps({"schema_version": SCHEMA_VERSION, **facts, "rows": rows}, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Benchmark":
        """Read what :meth:`to_json` wrote; raise BadUsage for another version, and for what is not as described."""
        found = FORM.read(cls, text)
        if not all(len(row.rounds_ms) == len(row.rounds_s) == len(row.rounds_runs) for row in found.rows):
            raise FORM.refusal("a row has not as many rounds_ms as rounds_s and rounds_runs")
        return found


def _written(block: tuple[float, ...]) -> list[float]:
    """A round's latencies to the last digit; 0, of a run shorter than a coarse clock's step, has no logarithm."""
    return [max(_LEAST_MS, round(sample, 5)) for sample in block]

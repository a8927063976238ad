"""Two benchmarks, row by row: two commits, two machines, two versions of a library; and the gate for CI.

Two runs at different times differ by more than what was changed: the clock rate, what else ran, how a process laid out
its memory. The intervals here hold what the rounds of each run show, and not that. Rows that take turns in one run tell
smaller differences apart: to judge a change of a few per cent, bench both files in one command.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from toolchain import regular_file
from toolchain.accuracy.status import Status
from toolchain.artifacts_folder import BENCH
from toolchain.bench.differences import Difference, differing, listed, of_machines, of_surroundings
from toolchain.bench.record import Benchmark, Row
from toolchain.errors import BadUsage, CheckFailed
from toolchain.stats import Interval, ratio_of_unpaired_medians

TOO_SLOW, CANNOT_TELL = "too slow", "cannot tell"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One row in both benchmarks.

    ``slowdown`` is the new time over the old one, above 1 when it takes longer: of the median latency, or, where
    several streams run, of the time per sample by throughput. None where one of the two was not timed.
    """

    old: Row
    new: Row
    slowdown: Interval | None

    @property
    def name(self) -> str:
        """The row and its circumstances."""
        return _name(self.new)

    @property
    def broke(self) -> bool:
        """Whether it was sound and is not any more."""
        return self.old.status is Status.OK and self.new.status is not Status.OK

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.new.status is not Status.OK:
            return f"now {self.new.status}" if self.broke else self.new.status
        if self.old.status is not Status.OK or self.slowdown is None:
            return "not timed" if self.old.status is Status.OK else f"was {self.old.status}"
        if self.slowdown.excludes(1.0):
            return "slower" if self.slowdown.low > 1 else "faster"
        return "no difference shown"

    def passes(self, max_slowdown: float) -> str:
        """What the gate says: ``passed``, ``too slow``, ``cannot tell`` where the limit lies inside the interval.

        Of a row that broke, or was not timed in both, its verdict.
        """
        if self.broke or self.slowdown is None:
            return self.verdict
        if self.slowdown.low > 1 + max_slowdown:
            return TOO_SLOW
        return CANNOT_TELL if self.slowdown.high > 1 + max_slowdown else "passed"

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Of the file, of the interpreter and the processors, and of what the backend says of itself."""
        old, new = self.old, self.new
        pairs = {
            "sha256": (old.candidate.sha256[:8], new.candidate.sha256[:8]),
            "interpreter": (old.setting.python, new.setting.python),
            "metric": tuple(row.metric and row.metric.name for row in (old, new)),
            "processors": (listed(old.setting.cpus), listed(new.setting.cpus)),
            **{name: (old.facts.get(name), new.facts.get(name)) for name in {**old.facts, **new.facts}},
        }
        return differing(pairs)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What changed between two benchmarks.

    ``machine`` lists what makes it another machine, ``surroundings`` what else is different around the rows: system,
    versions, data. ``only_old`` and ``only_new`` name rows that stand in one alone. The baseline measured twice for
    the noise floor is left out.
    """

    old: Benchmark
    new: Benchmark
    changes: tuple[Change, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    machine: tuple[Difference, ...]
    surroundings: tuple[Difference, ...]


def compare(old: Benchmark, new: Benchmark) -> Comparison:
    """Match rows by label and setting; whose interpreter or processors alone differ are matched too.

    Each interval is of 95 %: of twenty rows in which nothing changed, one is expected to be called faster or slower.
    Raises BadUsage when no row is in both.
    """
    pairs = _pairs(old.rows, new.rows)
    if not pairs:
        raise BadUsage(
            "No row is in both benchmarks.",
            "Bench the same targets with the same --batch, --threads, --provider and --concurrency.",
        )
    matched = {id(row) for pair in pairs for row in pair}
    return Comparison(
        old=old,
        new=new,
        changes=tuple(Change(old=before, new=after, slowdown=_slowdown(before, after)) for before, after in pairs),
        only_old=tuple(_name(row) for row in old.rows if not row.repeats and id(row) not in matched),
        only_new=tuple(_name(row) for row in new.rows if not row.repeats and id(row) not in matched),
        machine=of_machines(old.machines, new.machines),
        surroundings=of_surroundings(old, new),
    )


def baseline(path: Path) -> Benchmark:
    """What :func:`read` gives; raises BadUsage for a benchmark that was stopped too."""
    found = read(path)
    if not found.complete:
        raise BadUsage(f"The bench in {path} was stopped before its end.", "Make a new baseline.")
    return found


def require_no_slowdown(found: Comparison, *, max_slowdown: float = 0.05, allow_other_machine: bool = False) -> None:
    """The gate: a row fails when its whole interval lies beyond ``1 + max_slowdown``, or when it is not sound any more.

    Raises CheckFailed naming such rows; BadUsage when another machine made the old benchmark and that is not allowed,
    or when no row was timed in both.
    """
    of_another_machine(found.old.machines, found.new.machines, allowed=allow_other_machine)
    broken = [f"{change.name} is {change.verdict}" for change in found.changes if change.broke]
    slower = [
        f"{change.name} takes {change.slowdown.estimate:.2f} times as long "
        f"({change.slowdown.low:.2f} to {change.slowdown.high:.2f})"
        for change in found.changes
        if change.slowdown is not None and change.passes(max_slowdown) == TOO_SLOW
    ]
    if broken or slower:
        raise CheckFailed(
            f"Against the baseline, with {max_slowdown * 100:g} % allowed: {'; '.join([*broken, *slower])}.",
            "Find what changed with `nnx compare`, or allow more with --max-slowdown.",
        )
    if all(change.slowdown is None for change in found.changes):
        raise BadUsage("No row was timed in both benchmarks.", "Make a new baseline.")


def of_another_machine(
    old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]], *, allowed: bool
) -> tuple[str, ...]:
    """The warning that two descriptions, by the machine's name, are not of one machine, if so.

    Raises BadUsage instead unless that is ``allowed``.
    """
    differences = ", ".join(map(str, of_machines(old, new)))
    if not differences:
        return ()
    said = f"The baseline is from another machine: {differences}."
    if not allowed:
        raise BadUsage(said, "Make a baseline on this one, or add --allow-other-machine.")
    return (said,)


def read(path: Path) -> Benchmark:
    """The benchmark in a JSON file of ``nnx bench``, or in an artifacts folder; raise BadUsage when it is none."""
    file = path
    if path.is_dir():
        file = path / BENCH
    try:
        return Benchmark.from_json(regular_file.read_bytes(file))
    except FileNotFoundError as error:
        what = f"There is no benchmark in {path}." if path.is_dir() else f"There is no file {path}."
        raise BadUsage(what, "Make one with `nnx bench ... -o FILE`.") from error
    except BadUsage as error:
        raise BadUsage(f"{file} cannot be read. {error.what}", error.do) from error


def _pairs(old: Sequence[Row], new: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Rows that are the same in every setting; of the rest, those that are but for interpreter and processors."""
    before, after = ([row for row in rows if not row.repeats] for rows in (old, new))
    partners: dict[int, Row] = {}
    keys: tuple[Callable[[Row], object], ...] = (_place, _place_anywhere)
    for key in keys:
        taken = {id(row) for row in partners.values()}
        waiting = {key(row): row for row in before if id(row) not in taken}
        for index, row in enumerate(after):
            if index not in partners and (partner := waiting.pop(key(row), None)) is not None:
                partners[index] = partner
    return [(partners[index], row) for index, row in enumerate(after) if index in partners]


def _place(row: Row) -> object:
    return row.candidate.label, row.setting


def _place_anywhere(row: Row) -> object:
    return row.candidate.label, replace(row.setting, python=None, cpus=())


def _slowdown(old: Row, new: Row) -> Interval | None:
    if not old.rounds_ms or not new.rounds_ms:
        return None
    if new.setting.concurrency > 1:
        return ratio_of_unpaired_medians(*([[rate] for rate in row.rounds_per_s] for row in (old, new)))
    return ratio_of_unpaired_medians(new.rounds_ms, old.rounds_ms)


def _name(row: Row) -> str:
    return f"{row.candidate.label} on {row.setting.where}, {row.setting.circumstances}"

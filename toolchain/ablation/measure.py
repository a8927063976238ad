"""What each training switch gains over the loop that a newcomer writes: one process each, in turns."""

import random
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from exporters.atomic_file import write_text
from toolchain import machine
from toolchain.ablation import shared_data
from toolchain.ablation.record import Ablation, Variant
from toolchain.ablation.together import Together
from toolchain.accuracy.metrics.metric import Measure
from toolchain.artifacts_folder import ABLATION
from toolchain.bench import report
from toolchain.bench.group import Contestant
from toolchain.datasets.dataset import Dataset
from toolchain.errors import CheckFailed
from toolchain.inputs import sources
from toolchain.processes.turns import JobFailed, Turn
from toolchain.progress import Progress
from toolchain.stats import Interval, ratio_of_medians
from toolchain.training.options import Switches, TrainingOptions
from toolchain.training.record import ACCURACY, told

HEADINGS = ("training loop", "step ms", "step gain", "epoch s", "epoch gain", "validation", "first step s")
PLAIN, ALL, ALL_COMPILED = "plain", "all switches", "all, and compile"
_TURN_LIMIT_S = 3600.0
_JOB = "toolchain.ablation.variant"


def measure(
    recipe_name: str,
    data: Dataset,
    options: TrainingOptions,
    folder: Path,
    *,
    rounds: int,
    progress: Progress,
    steps_per_epoch: int,
    measure: Measure = ACCURACY,
    data_folder: Path | None = None,
    processes: int = 1,
    start: Callable[..., Contestant] = Turn,
) -> Ablation:
    """Train every variant for ``options.epochs`` in ``rounds`` interleaved parts; leave ablation.json and ablation.md.

    ``measure`` is the recipe's metric, ``data_folder`` where ``data`` was read.

    The plain loop is fp32, eager, default memory format, and transforms sample by sample in a DataLoader. A variant
    that cannot run is left out and named; "all switches" are those that training uses by default on this device. With
    more than one of ``processes`` these train together in two more rows: the same batch in all of them, and the same in
    each, where an epoch has fewer steps.
    Without the plain loop the others are kept, and no gain is known: see :func:`require_plain`. Raises CheckFailed when
    no loop could run.
    """
    results: dict[str, dict[str, Any]] = {}
    dropped: dict[str, str] = {}
    loops = {name: _Loop(replace(options, switches=chosen)) for name, chosen in variants_of(options.switches).items()}
    if processes > 1:
        weak = replace(options, batch_size=options.batch_size * processes)
        loops |= {
            f"all, {processes} processes": _Loop(options, processes),
            f"all, {processes} processes, {processes} x batch": _Loop(weak, processes),
        }
    totals = {name: loop.steps_of_all(options, steps_per_epoch) for name, loop in loops.items()}
    loops = {name: loop for name, loop in loops.items() if totals[name]}  # an epoch may have too few samples for one
    rounds = min(rounds, *(totals[name] for name in loops))
    with tempfile.TemporaryDirectory(prefix="nnx-ablation-") as temporary:
        files = shared_data.write(data, Path(temporary))
        running: dict[str, Contestant] = {}
        try:
            with progress.bar("start", len(loops)) as bar:
                for name, loop in loops.items():
                    spec = {
                        "recipe": sources.absolute(recipe_name),
                        "options": loop.options.as_json(),
                        "files": files,
                        "data_folder": None if data_folder is None else str(data_folder.resolve()),
                        "max_bad": data.bad.most,
                        "threads": loop.threads,
                    }
                    running[name] = contestant = loop.started(start, spec)
                    try:
                        contestant.open()
                        results[name] = {"first_step_s": contestant.ask("start"), "parts": []}
                    except JobFailed as failure:
                        _drop(name, failure, running, dropped, progress)
                    bar.advance(loop=name)
            steps = {
                name: np.diff(np.linspace(0, totals[name], rounds + 1).astype(int)).tolist() for name in loops
            }  # fmt: skip
            _take_turns(running, results, dropped, steps, progress)
            for name, contestant in list(running.items()):
                try:
                    results[name]["score"] = contestant.ask("score")
                except JobFailed as failure:
                    _drop(name, failure, running, dropped, progress)
        finally:
            for contestant in running.values():
                contestant.close()
    if not running:
        raise CheckFailed(f"No loop could run. The plain one: {dropped[PLAIN]}", "Train the recipe first.")
    plain = results[PLAIN] if PLAIN in running else None
    found = Ablation(
        recipe=recipe_name,
        options=options.as_json(),
        machine=asdict(machine.describe()),
        variants=tuple(_variant(name, loops[name].options, results[name], plain) for name in running),
        dropped=dropped,
        measure=measure,
    )
    write_text(folder / ABLATION, found.to_json())
    write_text(folder / "ablation.md", report.markdown_table(HEADINGS, cells(found)) + "\n")
    return found


@dataclass(frozen=True)
class _Loop:
    """What one row trains with."""

    options: TrainingOptions
    processes: int = 1

    @property
    def threads(self) -> int:
        """Of each process."""
        return max(1, machine.usable_cores() // self.processes)

    def started(self, start: Callable[..., Contestant], spec: dict[str, Any]) -> Contestant:
        more: dict[str, Any] = {"threads": self.threads, "timeout_s": _TURN_LIMIT_S}
        if self.processes == 1:
            return start(_JOB, spec, **more)
        return Together(start, _JOB, spec, processes=self.processes, **more)

    def steps_of_all(self, asked: TrainingOptions, steps_per_epoch: int) -> int:
        """How many are in all epochs, where there are so many of the asked batch size in each."""
        return asked.epochs * (steps_per_epoch * asked.batch_size // self.options.batch_size)


def require_plain(found: Ablation) -> None:
    """Raise CheckFailed where the loop that the others are compared with could not run."""
    if PLAIN in found.dropped:
        raise CheckFailed(
            f"The plain loop could not run, so no gain is known: {found.dropped[PLAIN]}", "Train the recipe first."
        )


def variants_of(full: Switches) -> dict[str, Switches]:
    """The plain loop, each switch that matters alone, all that ``full`` has on together, and these with compile."""
    plain = Switches(compile_mode=full.compile_mode)
    compiled = replace(full, compile=True)
    alone = {
        (f"amp {full.amp}" if name == "amp" else name): replace(plain, **{name: value})
        for name, value in asdict(compiled).items()
        if value != getattr(plain, name)
    }
    together = {ALL: full} if full == compiled else {ALL: full, ALL_COMPILED: compiled}
    return {PLAIN: plain, **alone, **together}


def cells(found: Ablation) -> list[list[str]]:
    """Rows under HEADINGS."""
    return [
        [
            variant.name, f"{variant.step_ms:.1f}", _gain(variant.step_gain), f"{variant.epoch_s:.1f}",
            _gain(variant.epoch_gain), told(found.measure, variant.validation_score),
            f"{variant.first_step_s:.1f}",
        ]
        for variant in found.variants
    ]  # fmt: skip


def _drop(
    name: str, failure: JobFailed, running: dict[str, Contestant], dropped: dict[str, str], progress: Progress
) -> None:
    running.pop(name).close()
    dropped[name] = failure.what
    progress.warn(f"{name} is left out: {failure.what}")


def _take_turns(
    running: dict[str, Contestant],
    results: dict[str, dict[str, Any]],
    dropped: dict[str, str],
    steps: dict[str, list[int]],
    progress: Progress,
) -> None:
    order, rounds = random.Random(0), len(next(iter(steps.values())))
    with progress.bar("rounds", rounds * len(running)) as bar:
        for number in range(rounds):
            for name in order.sample(list(running), len(running)):
                try:
                    results[name]["parts"].append(running[name].ask("part", steps=steps[name][number]))
                except JobFailed as failure:
                    _drop(name, failure, running, dropped, progress)
                bar.advance(loop=name)


def _variant(name: str, options: TrainingOptions, result: dict[str, Any], plain: dict[str, Any] | None) -> Variant:
    def steps_of(given: dict[str, Any]) -> list[list[float]]:
        return [part["step_ms"] for part in given["parts"]]

    def seconds_of(given: dict[str, Any]) -> list[list[float]]:
        return [[part["seconds"]] for part in given["parts"]]

    return Variant(
        name=name,
        switched_on=tuple(options.switches.on()),
        steps_ms=tuple(tuple(block) for block in steps_of(result)),
        parts_s=tuple(part["seconds"] for part in result["parts"]),
        epochs=options.epochs,
        validation_score=result["score"],
        first_step_s=result["first_step_s"],
        step_gain=None if plain is None else ratio_of_medians(steps_of(plain), steps_of(result)),
        epoch_gain=None if plain is None else ratio_of_medians(seconds_of(plain), seconds_of(result)),
    )


def _gain(gain: Interval | None) -> str:
    return "–" if gain is None else f"{gain.estimate:.2f}x ({gain.low:.2f}–{gain.high:.2f})"

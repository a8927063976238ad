"""Which session settings a model runs fastest with on this machine: a few candidates, timed in turns.

Fusions are not always a gain. On a CPU, an encoder of MiniLM's size in dynamic int8 is 1.35 times faster without
SkipLayerNormFusion, 1.39 times without BiasGeluFusion too, and its fp32 gains 13 % when the graph is optimized less.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from exporters import onnx_file, provenance
from exporters.artifact import Artifact
from exporters.model_file import ModelFile
from runtimes.session_settings import KEY, SessionSettings, code
from toolchain import machine
from toolchain.accuracy.comparison import compare
from toolchain.accuracy.status import Status
from toolchain.bench import benchmark
from toolchain.bench import candidates as bench_candidates
from toolchain.bench.effort import Effort
from toolchain.bench.judgement import Judge, Judgement, Outputs
from toolchain.bench.output_graph import OutputGraph
from toolchain.bench.record import Benchmark, Row, Setting
from toolchain.conversion.proof import Proven
from toolchain.errors import CheckFailed
from toolchain.inputs import made_up, samples
from toolchain.inputs.samples import Samples
from toolchain.progress import SILENT, Progress
from toolchain.stats import Interval

MIN_GAIN = 1.03
"""What other settings must surely be faster by than the defaults: less is not worth the lines of code they cost."""
DEFAULT = "default"
_EFFORT = Effort(seconds=0.1, max_time_s=10.0)
_GELUS = {"Gelu", "Erf"}


@dataclass(frozen=True, kw_only=True)
class Found:
    """The ``settings`` to run the model with; ``speedup`` is theirs over the defaults, None where these are the best.

    ``rows`` are all candidates of the measurement that decided, the defaults first, ``tried`` those of the one before
    it if there was one; the files they name were copies and are gone.
    """

    settings: SessionSettings
    speedup: Interval | None
    rows: tuple[Row, ...]
    tried: tuple[Row, ...] = ()

    def __str__(self) -> str:
        if self.speedup is None:
            others = ", ".join(row.candidate.label for row in self.rows[1:])
            return f"default session settings: none is surely {MIN_GAIN - 1:.0%} faster ({others})"
        label = next(row.candidate.label for row in self.rows if row.speedup is self.speedup)
        gain = self.speedup
        return f"{label}: {gain.estimate:.2f}x over the default settings (95 %: {gain.low:.2f} to {gain.high:.2f})"


def best(
    model: ModelFile,
    feeds: Samples,
    *,
    threads: int,
    precision: str,
    batch: int = 1,
    effort: Effort | None = None,
    progress: Progress = SILENT,
    measure: Callable[..., Benchmark] = benchmark.run,
) -> Found:
    """Time the settings that can matter to ``model`` beside the defaults, on the CPU provider, each in its own process.

    The defaults stay unless other settings are surely faster by :data:`MIN_GAIN` and give the same outputs within
    ``precision``'s tolerance. Settings that ``model`` already holds are not looked at, and the file is not changed:
    see :func:`store`. ``measure`` is :func:`toolchain.bench.benchmark.run`, or that with scripted contestants.

    Raises CheckFailed when the model does not run with the defaults.
    """
    trials = candidates(model.proto, precision=precision)
    setting = Setting(provider="cpu", batch=batch, threads=threads)
    rows = _measured(model, trials, feeds, setting, precision, effort, progress, measure)
    _require_default(rows, model)
    return _fastest(trials, rows)


def _measured(
    model: ModelFile,
    trials: Mapping[str, SessionSettings],
    feeds: Samples,
    setting: Setting,
    precision: str,
    effort: Effort | None,
    progress: Progress,
    measure: Callable[..., Benchmark],
) -> tuple[Row, ...]:
    with tempfile.TemporaryDirectory(prefix="nnx-settings-") as folder:
        return measure(
            [
                bench_candidates.of_file(_with(settings, model, Path(folder) / f"candidate{index}.onnx"), label=label)
                for index, (label, settings) in enumerate(trials.items())
            ],
            [setting],
            feeds,
            judge=_same_within(precision),
            effort=effort,
            progress=progress,
        ).rows


def _require_default(rows: Sequence[Row], model: ModelFile) -> None:
    if rows[0].status is not Status.OK:
        raise CheckFailed(f"{model} does not run with the default session settings.", rows[0].reason)


def _fastest(trials: Mapping[str, SessionSettings], rows: tuple[Row, ...]) -> Found:
    """Of ``rows``, the defaults first, the fastest that is surely worth its lines of code."""
    faster = [(row.speedup, row) for row in rows[1:] if row.status is Status.OK and row.speedup is not None]
    faster = [(speedup, row) for speedup, row in faster if speedup.low > MIN_GAIN]
    if not faster:
        return Found(settings=trials[DEFAULT], speedup=None, rows=rows)
    speedup, chosen = max(faster, key=lambda pair: pair[0].estimate)
    return Found(settings=trials[chosen.candidate.label], speedup=speedup, rows=rows)


def thorough(
    model: ModelFile,
    feeds: Samples,
    *,
    setting: Setting,
    precision: str,
    effort: Effort | None = None,
    progress: Progress = SILENT,
    measure: Callable[..., Benchmark] = benchmark.run,
) -> Found:
    """Every switch by itself first, then the one that gained most and all that gained together, once more.

    The second measurement decides, beside the defaults: the best of many looks better than it is in the run that chose
    it. ``setting`` is on the CPU provider. Otherwise as :func:`best`.
    """
    switches = every_switch(model.proto, precision=precision)
    first = _measured(model, switches, feeds, setting, precision, effort, progress, measure)
    _require_default(first, model)
    gained = sorted(
        (row for row in first[1:] if row.status is Status.OK and row.speedup is not None and row.speedup.low > 1),
        key=lambda row: -row.speedup.estimate if row.speedup else 0.0,
    )
    if not gained:
        return Found(settings=SessionSettings(), speedup=None, rows=first)
    finalists = {DEFAULT: switches[DEFAULT], gained[0].candidate.label: switches[gained[0].candidate.label]}
    together = _together([switches[row.candidate.label] for row in gained])
    if together not in finalists.values():
        finalists[", ".join(row.candidate.label for row in gained)] = together
    second = _measured(model, finalists, feeds, setting, precision, effort, progress, measure)
    _require_default(second, model)
    return replace(_fastest(finalists, second), tried=first)


def tune(
    model: ModelFile,
    setting: Setting,
    *,
    samples_source: str | None = None,
    data_folder: Path | None = None,
    effort: Effort | None = None,
    progress: Progress = SILENT,
) -> Found:
    """What :func:`thorough` finds for one file, on real inputs if there are any; stored in it where it gains."""
    if samples_source is not None:
        feeds = samples.named(samples_source, data_folder, split="test", count=setting.batch, model=model)
    else:
        feeds = made_up.samples_for(model, setting.batch)
    found = thorough(model, feeds, setting=setting, precision=model.precision, effort=effort, progress=progress)
    if found.speedup is not None:
        store(model, found.settings)
    return found


def every_switch(model: onnx.ModelProto, *, precision: str) -> dict[str, SessionSettings]:
    """Label -> the defaults, and then each setting of a session changed by itself."""
    return {
        **candidates(model, precision=precision),
        "extended optimization": SessionSettings(graph_level="extended"),
        "basic optimization": SessionSettings(graph_level="basic"),
        "parallel execution": SessionSettings(execution_mode="parallel"),
        "no spinning": SessionSettings(spinning=False),
    }


def _together(gained: Sequence[SessionSettings]) -> SessionSettings:
    """All changes at once; of two graph levels the one that comes first."""
    changes: dict[str, Any] = {}
    for settings in gained:
        for name, value in asdict(settings).items():
            if value != getattr(SessionSettings(), name):
                changes.setdefault(name, value)
    return SessionSettings(**changes)


def candidates(model: onnx.ModelProto, *, precision: str) -> dict[str, SessionSettings]:
    """Label -> settings worth timing for ``model``, the defaults first.

    Less optimization is for fp32 alone, int8 convolutions lose 40 to 80 % by it; fusions are only turned off where the
    graph has what they fuse.
    """
    operators = {node.op_type for graph in onnx_file.graphs_of(model) for node in graph.node}
    trials = {DEFAULT: SessionSettings()}
    if precision == "fp32":
        trials["basic optimization"] = SessionSettings(graph_level="basic")
    if "Add" in operators and onnx_file.has_layer_norms(model):
        trials["no SkipLayerNormFusion"] = SessionSettings(disabled_optimizers=("SkipLayerNormFusion",))
        if operators & _GELUS:
            both = ("SkipLayerNormFusion", "BiasGeluFusion")
            trials["no SkipLayerNormFusion, no BiasGeluFusion"] = SessionSettings(disabled_optimizers=both)
    trials["no memory pattern"] = SessionSettings(memory_pattern=False)
    return trials


def has_choices(model: ModelFile) -> bool:
    """Whether the graph has fusions that may hurt: other settings have not been seen to matter."""
    return any(settings.disabled_optimizers for settings in candidates(model.proto, precision=model.precision).values())


def store(model: ModelFile, settings: SessionSettings) -> ModelFile:
    """Write ``settings`` into the file, over those it held; :class:`runtimes.ort.OrtRuntime` obeys them from then on.

    The file is replaced as a whole, so its SHA-256 changes: it is another one, which is returned.
    """
    return _with(settings, model, model.path)


def _with(settings: SessionSettings, model: ModelFile, path: Path) -> ModelFile:
    """``model`` as a file that says how to run it: what is timed is what would ship."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model.proto)
    provenance.write(copy, {KEY.removeprefix("nnx."): settings.to_json()})
    onnx_file.save(copy, path)
    return ModelFile.of(copy, path)


def _same_within(precision: str) -> Judge:
    def judge(row: Row, outputs: Outputs, baseline: tuple[Row, Outputs] | None) -> Judgement:
        if baseline is None:
            return Judgement()
        graph = OutputGraph.of(row)
        compared = compare(baseline[1], outputs, precision=precision, kinds=graph.kinds, axes=graph.axes)
        if compared.passed:
            return Judgement()
        reason = f"Its outputs differ from those with default settings: {compared.why} ({compared})."
        return Judgement(status=Status.UNPROVEN, reason=reason)

    return judge


def tuned(made: Proven, *, progress: Progress = SILENT) -> tuple[Proven, str]:
    """``made`` with the settings stored in its file that it runs fastest with here, and the code that opens it so.

    As it was, and an empty text, where nothing else can matter to the graph or is surely faster.
    """
    artifact, judged_on = made.artifact, made.judged_on
    file = made.file
    if judged_on is None or not has_choices(file):
        return made, ""
    batch, threads = file.fixed_batch or 1, machine.usable_cores()
    found = best(
        file,
        judged_on.first(batch),
        threads=threads,
        precision=file.precision,
        batch=batch,
        effort=_EFFORT,
        progress=progress,
    )
    if found.speedup is None:
        return made, ""
    changed = Artifact.of(
        store(file, found.settings),
        precision=artifact.precision,
        parent_sha256=artifact.parent_sha256,
        notes=(*artifact.notes, f"session settings: {found}"),
    )
    return replace(made, artifact=changed), code(found.settings, artifact.path, threads)

"""The one road from a model file to a proven one in another precision: refused, prepared, made, judged, named."""

from pathlib import Path

from exporters import onnx_file
from exporters.atomic_file import remove_leftovers
from exporters.errors import NotApplicable
from exporters.external_data import data_names
from exporters.model_file import ModelFile
from toolchain.accuracy import running
from toolchain.accuracy.metrics.built_in import TOP1
from toolchain.accuracy.metrics.collecting import rows_of
from toolchain.accuracy.metrics.metric import Metric
from toolchain.accuracy.status import Status
from toolchain.conversion import refusal
from toolchain.conversion.given import Source
from toolchain.conversion.goal import Goal
from toolchain.conversion.precisions import Precision, Ready
from toolchain.conversion.proof import Proven
from toolchain.conversion.ranking import rank
from toolchain.conversion.trial import Trial
from toolchain.errors import BadUsage, CheckFailed
from toolchain.inputs.samples import Samples, require_answers
from toolchain.processes.workers import HERE, Workers
from toolchain.progress import SILENT, Progress


def convert(
    model: ModelFile,
    dst: Path,
    precision: Precision,
    *,
    given: Source,
    goal: Goal | None = None,
    workers: Workers = HERE,
    progress: Progress = SILENT,
) -> Proven:
    """Write ``model`` in ``precision`` to ``dst``, as it is or with the fewest nodes found put back in float.

    What can be refused is refused before ``given`` reads any data. Without a requirement the result is compared by its
    precision's rule, and where there are labels by :data:`gate.DEFAULT`. A version that does not pass starts a search,
    if there is a budget. No file is left unless one passes. ``workers`` calibrate and judge, to the same result.

    Raises BadUsage, CheckFailed, Undecided, and what the exporters raise.
    """
    goal = goal or Goal()
    if dst.resolve() == model.path.resolve():
        raise BadUsage("The output is the input file.", "Choose another --output.")
    if any(name.exists() and name.samefile(file) for name in data_names(dst) for file in model.external_files):
        raise BadUsage("The output's weights would take the place of the input's.", "Choose another --output.")
    onnx_file.require_nodes(model.normal, goal.exclude, source=model)
    precision.refuse(model)
    samples = given(model, precision.calibrates)
    if goal.requirement is not None and goal.requirement.max_drop is not None and samples.judged_on.labels is None:
        raise BadUsage(
            f"A {goal.metric.worse} cannot be measured without labels.",
            "Give labelled samples with --eval, or --min-sqnr or --min-cosine instead of --max-drop.",
        )
    _require_fit(goal.metric, model, samples.judged_on)
    if random := running.random_node(model, samples.judged_on.inputs, model.batch_axes):
        raise CheckFailed(
            f"{model} gives another answer when it is called again: its node {random} draws random numbers.",
            "Export it in evaluation mode, or let it take what it draws as an input.",
        )
    ready = precision.prepare(model, samples, progress, workers)
    return fit(
        model, dst, precision.name, ready, judged_on=samples.judged_on, goal=goal, workers=workers, progress=progress
    )


def _require_fit(metric: Metric, model: ModelFile, samples: Samples) -> None:
    """Raise BadUsage where a metric that somebody named is not for these samples, before minutes of calibration."""
    if metric is TOP1:
        return
    few = samples.first(2, multiple=model.fixed_batch or 1)
    require_answers(metric, few)
    assert few.labels is not None
    rows_of(metric, running.calls_of(model, few.inputs, model.batch_axes), few.labels, model.batch_axes.outputs)


def fit(
    src: ModelFile,
    dst: Path,
    precision: str,
    ready: Ready,
    *,
    judged_on: Samples,
    goal: Goal,
    workers: Workers = HERE,
    progress: Progress,
) -> Proven:
    """Write a version of ``src`` to ``dst`` that meets ``goal`` on ``judged_on``; leave no file when none does."""
    remove_leftovers(dst.parent)
    trial = Trial(src, ready, precision, judged_on, goal, workers)
    plan = None
    with onnx_file.staged_model(dst) as candidate:
        artifact, got = trial.made(candidate, goal.exclude, goal.methods)
        verdict = trial.judge(got)
        if verdict.status is not Status.OK and goal.budget_s:
            progress.note(f"every node converted: {verdict.brief}; searching which to put back in float")
            if goal.requirement is None:
                progress.note(f"nothing is required, so for {goal.budget_s:g} s at most; --budget gives it longer")
            journal = dst.with_name(f"{dst.name}.search.json")
            plan = trial.search(
                verdict, got, lambda on: rank(candidate, ready, on, progress), journal=journal, progress=progress
            )
            whole = verdict
            try:
                artifact, got = trial.made(candidate, plan.exclude, plan.methods)
            except NotApplicable as nothing:
                worst = next((node for node in plan.exclude if node not in goal.exclude), "")
                raise refusal.nothing_left(whole, goal, precision, worst, real=judged_on.real) from nothing
            verdict = trial.judge(got, trial.final)
        compared = trial.compare(got)
        refusal.require(
            verdict, compared, goal, precision, lambda: rank(candidate, ready, trial.ranked_on(), progress),
            real=judged_on.real,
        )  # fmt: skip
    return Proven(
        artifact=artifact.placed(dst),
        parity=compared,
        proven_on=judged_on.source,
        verdict=verdict if trial.gated else None,
        plan=plan,
        judged_on=judged_on,
        source_bytes=src.size_bytes,
    )

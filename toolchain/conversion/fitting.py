"""The one road from a model file to a proven one in another precision: refused, prepared, made, judged, named."""

import math
from dataclasses import replace
from pathlib import Path

from exporters import onnx_file
from exporters.artifact import Artifact
from exporters.atomic_file import remove_leftovers, staged
from exporters.model_file import ModelFile
from toolchain.accuracy import gate
from toolchain.accuracy.status import Status
from toolchain.conversion.given import Source
from toolchain.conversion.goal import Goal
from toolchain.conversion.precisions import Precision, Ready
from toolchain.conversion.proof import Proven
from toolchain.conversion.ranking import rank
from toolchain.conversion.record import Plan
from toolchain.conversion.trial import NOTHING_LEFT, Trial
from toolchain.errors import BadUsage, CheckFailed
from toolchain.inputs.samples import Samples
from toolchain.progress import Progress


def convert(
    model: ModelFile, dst: Path, precision: Precision, *, given: Source, goal: Goal, progress: Progress
) -> Proven:
    """Write ``model`` in ``precision`` to ``dst``, as it is or with the fewest nodes found put back in float.

    What can be refused is refused before ``given`` reads any data. Without a requirement the result is compared by its
    precision's rule, and where there are labels by :data:`gate.DEFAULT`. With one, and with a budget, a version that
    does not pass starts a search. No file is left unless one passes.

    Raises BadUsage, CheckFailed, Undecided, and what the exporters raise.
    """
    if dst.resolve() == model.path.resolve():
        raise BadUsage("The output is the input file.", "Choose another --output.")
    onnx_file.require_nodes(model.normal, goal.exclude, source=model)
    precision.refuse(model)
    samples = given(model, precision.calibrates)
    if goal.requirement is not None and goal.requirement.max_drop is not None and samples.judged_on.labels is None:
        raise BadUsage(
            "A drop in accuracy cannot be measured without labels.",
            "Give labelled samples with --eval, or --min-sqnr or --min-cosine instead of --max-drop.",
        )
    ready = precision.prepare(model, samples, progress)
    return fit(model, dst, precision.name, ready, judged_on=samples.judged_on, goal=goal, progress=progress)


def fit(
    src: ModelFile, dst: Path, precision: str, ready: Ready, *, judged_on: Samples, goal: Goal, progress: Progress
) -> Proven:
    """Write a version of ``src`` to ``dst`` that meets ``goal`` on ``judged_on``; leave no file when none does."""
    remove_leftovers(dst.parent)
    trial = Trial(src, ready, judged_on, goal)
    plan = None
    with staged(dst) as candidate:
        artifact = ready.make(candidate, goal.exclude, goal.methods)
        got = trial.outputs(candidate)
        verdict = trial.judge(got)
        if goal.requirement is None:
            compared = trial.compare(got, precision, required=True)
            if verdict is not None and verdict.status is Status.UNPROVEN:
                raise CheckFailed(verdict.text, "Give --max-drop to search which nodes must stay in float for it.")
            if verdict is not None:
                gate.require(verdict)
        else:
            assert verdict is not None
            if verdict.status is not Status.OK and goal.budget_s:
                progress.note(f"every node converted: {verdict.brief}; searching which to put back in float")
                journal = dst.with_name(f"{dst.name}.search.json")
                plan = trial.search(
                    verdict, lambda on: rank(candidate, ready, on, progress), journal=journal, progress=progress
                )
                artifact = _made_by(plan, candidate, ready)
                got = trial.outputs(candidate)
                verdict = trial.judge(got, trial.final) or verdict
            gate.require(verdict)
            compared = trial.compare(got, precision, required=False)
            if compared.sqnr_db == -math.inf:  # of an output that the gate did not look at
                raise CheckFailed("An output of the result is not finite, or has another shape.", "Report it.")
    made = replace(artifact, path=dst)
    return Proven(
        artifact=made, parity=compared, proven_on=judged_on.source, verdict=verdict, plan=plan, judged_on=judged_on
    )


def _made_by(plan: Plan, candidate: Path, ready: Ready) -> Artifact:
    try:
        return ready.make(candidate, plan.exclude, plan.methods)
    except NOTHING_LEFT as error:
        raise CheckFailed(
            "Only the original meets the requirement: every node that can be converted would have to stay in float.",
            "Loosen the requirement, or ship the original.",
        ) from error

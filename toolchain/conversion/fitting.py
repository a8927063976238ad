"""Makes a conversion that meets the accuracy gate: as it is, or with the fewest nodes found put back in float."""

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters import onnx_file, provenance
from exporters.artifact import Artifact
from exporters.atomic_file import remove_leftovers, sha256_of, staged
from exporters.calibration import data as calibration_data
from exporters.calibration.thresholds import Method
from exporters.errors import NotApplicable, WrongResult
from toolchain.accuracy import gate, parity
from toolchain.accuracy.gate import Outcome, Requirement, Verdict
from toolchain.bench.judging import MAX_DROP
from toolchain.conversion import proof
from toolchain.conversion.proof import Proven
from toolchain.conversion.search import Plan, search
from toolchain.errors import BadUsage, CheckFailed
from toolchain.inputs import overlap
from toolchain.inputs.samples import Samples
from toolchain.progress import Progress

Methods = Mapping[str, Method]
"""Tensor -> the calibration method of its range, where that is not the model's."""
Make = Callable[[Path, Collection[str], Methods], Artifact]
"""(file to write, nodes to leave in float, methods by tensor) -> what was written."""
Outputs = npt.NDArray[np.generic]
STEERING = slice(0, None, 2)
"""The samples that a search goes by, where there are enough."""
_NOTHING_LEFT = (NotApplicable, WrongResult)  # what a converter says when every node that it could convert is excluded


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What the result must keep, None to be refused only for what is plainly broken; ``budget_s`` 0 does not search.

    ``exclude`` stays in float in any case, and ``methods`` hold; ``facts`` are what the verdicts depend on besides the
    files and the samples.
    """

    requirement: Requirement | None = None
    budget_s: float = 0.0
    exclude: tuple[str, ...] = ()
    methods: Methods = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def fit(
    src: Path,
    dst: Path,
    *,
    precision: str,
    make: Make,
    rank: Callable[[Path], list[str]],
    refine: Callable[[], Methods] | None = None,
    judged_on: Samples,
    goal: Goal,
    progress: Progress,
) -> Proven:
    """Write a version of ``src`` to ``dst`` that passes the gate on ``judged_on``; leave no file when none does.

    Without a requirement it is compared by its precision's rule, and where there are labels it must not be shown to
    lose more than MAX_DROP. With one, and with a budget, a version that does not pass starts a search: with the methods
    that ``refine`` finds for single tensors, if they bring the outputs nearer, over the nodes in the order of ``rank``
    (most damaging first). Every other sample steers it, the rest give the final verdict, so that the choice is not
    judged by what it was chosen by. Raises CheckFailed or Undecided.
    """
    proof.refuse_same(src, dst)
    remove_leftovers(dst.parent)
    trial = _Trial(src, make, judged_on, goal)
    plan = None
    with staged(dst) as candidate:
        artifact = make(candidate, goal.exclude, goal.methods)
        verdict = trial.judge(candidate)
        few = judged_on.first(parity.SAMPLES, multiple=calibration_data.fixed_batch(onnx_file.load(src)) or 1).inputs
        if goal.requirement is None:
            compared = parity.check_conversion(candidate, src, few, precision=precision)
            if verdict is not None and verdict.outcome is Outcome.FAILED:
                raise CheckFailed(verdict.text, "Give --max-drop to search which nodes must stay in float for it.")
        else:
            assert verdict is not None
            if verdict.outcome is not Outcome.PASSED and goal.budget_s:
                progress.note(f"every node converted: {verdict.brief}; searching which to put back in float")
                journal = dst.with_name(f"{dst.name}.search.json")
                plan = trial.search(verdict, lambda: rank(candidate), refine, journal=journal, progress=progress)
                artifact = _made_by(plan, candidate, make)
                verdict = trial.judge(candidate, trial.final) or verdict
            gate.require(verdict)
            compared = parity.check_conversion(candidate, src, few, precision=precision, required=False)
            if compared.sqnr_db == -math.inf:  # of an output that the gate did not look at
                raise CheckFailed("An output of the result is not finite, or has another shape.", "Report it.")
    made = replace(artifact, path=dst)
    return Proven(
        artifact=made, parity=compared, proven_on=judged_on.source, verdict=verdict, plan=plan, judged_on=judged_on
    )


def _made_by(plan: Plan, candidate: Path, make: Make) -> Artifact:
    try:
        return make(candidate, plan.exclude, plan.methods)
    except _NOTHING_LEFT as error:
        raise CheckFailed(
            "Only the original meets the requirement: every node that can be converted would have to stay in float.",
            "Loosen the requirement, or ship the original.",
        ) from error


class _Trial:
    """One source model, and what its versions are judged by."""

    def __init__(self, src: Path, make: Make, judged_on: Samples, goal: Goal) -> None:
        self._src, self._make, self._samples, self._goal = src, make, judged_on, goal
        self.methods = goal.methods
        self.final = slice(None)
        """Which samples have the last word: all, until a search goes by some."""
        judged = goal.requirement is not None or judged_on.labels is not None
        self._right = self._outputs(src) if judged else None
        self._requirement = goal.requirement
        if goal.requirement is None and self._right is not None and self._right.ndim == 2:
            self._requirement = Requirement(max_drop_points=MAX_DROP * 100)

    def judge(self, path: Path, part: slice = slice(None)) -> Verdict | None:
        """The verdict on a file over a part of the samples; None where there is nothing to judge by."""
        return None if self._requirement is None else self._verdict(self._outputs(path), part)

    def search(
        self,
        plain: Verdict,
        rank: Callable[[], list[str]],
        refine: Callable[[], Methods] | None,
        *,
        journal: Path,
        progress: Progress,
    ) -> Plan:
        """Which nodes to leave in float, ``plain`` being the verdict on none; sets ``methods`` and ``final``."""
        assert self._right is not None
        began = time.monotonic()
        if self._verdict(self._right, slice(None)).outcome is Outcome.UNDECIDED:
            gate.require(plain)  # these samples could not even tell a perfect copy from a failing one
        steering, self.final = STEERING, slice(1, None, 2)
        if any(self._verdict(self._right, part).outcome is Outcome.UNDECIDED for part in (steering, self.final)):
            progress.warn("There are too few samples to judge the search by others than it goes by: it uses all.")
            steering = self.final = slice(None)
        if refine is not None and not self._goal.methods:
            self._take_better(refine(), steering, progress)
        ranking = rank()
        plan = search(
            ranking,
            lambda excluded: self._verdict(self._version(excluded), steering),
            confirm=lambda excluded: self._verdict(self._version(excluded), self.final),
            budget_s=max(self._goal.budget_s - (time.monotonic() - began), 1e-3),
            journal=journal,
            key=self._key(),
            progress=progress,
        )
        exclude = tuple(dict.fromkeys((*self._goal.exclude, *plan.exclude)))
        return replace(plan, exclude=exclude, methods=dict(self.methods), options=dict(self._goal.facts))

    def _take_better(self, methods: Methods, part: slice, progress: Progress) -> None:
        """Go on with ``methods`` if the model comes nearer to the original by them."""
        if not methods:
            return
        before = self._verdict(self._version(frozenset()), part)
        self.methods = methods
        after = self._verdict(self._version(frozenset()), part)
        if before.sqnr_db and after.sqnr_db and after.sqnr_db.estimate > before.sqnr_db.estimate:
            progress.note(f"other methods for {len(methods)} tensors: {after.brief}")
        else:
            self.methods = self._goal.methods

    def _version(self, excluded: frozenset[str]) -> Outputs:
        """The outputs with ``excluded`` in float; the original's when that leaves nothing to convert."""
        with tempfile.TemporaryDirectory(prefix="nnx-trial-") as folder:
            chosen = [*self._goal.exclude, *sorted(excluded)]
            try:
                made = self._make(Path(folder) / "trial.onnx", chosen, self.methods)
            except _NOTHING_LEFT:
                assert self._right is not None
                return self._right
            return self._outputs(made.path)

    def _verdict(self, outputs: Outputs, part: slice) -> Verdict:
        assert self._requirement is not None and self._right is not None
        labels = self._samples.labels if self._right.ndim == 2 else None
        count = min(len(outputs), len(self._right))  # a fixed batch leaves an incomplete last one out
        return gate.judge(
            self._requirement, self._right[:count][part], outputs[:count][part],
            None if labels is None else labels[:count][part],
        )  # fmt: skip

    def _outputs(self, path: Path) -> Outputs:
        """``(N, K)``: the only output, the first where there are labels for it, or all of them side by side."""
        found = parity.outputs_of(path, self._samples.inputs)
        first = next(iter(found.values()))
        if len(found) == 1 or self._samples.labels is not None:
            return first
        count = len(next(iter(self._samples.inputs.values())))
        for name, array in found.items():
            if array.ndim == 0 or len(array) != count:
                raise BadUsage(
                    f"The output '{name}' is {list(array.shape)} for {count} samples: the gate cannot tell them apart.",
                    "It judges models whose outputs have one row a sample; leave the requirement out.",
                )
        return np.concatenate([array.reshape(count, -1) for array in found.values()], axis=1)

    def _key(self) -> str:
        """A digest of all that the verdicts depend on."""
        goal = self._goal
        facts = [
            sha256_of(self._src), repr(goal.requirement), list(goal.exclude), dict(goal.methods), dict(self.methods),
            dict(goal.facts), provenance.tool_versions(),
        ]  # fmt: skip
        state = hashlib.sha256(json.dumps(facts, default=str).encode())
        state.update(overlap.digest(self._samples.inputs).encode())
        if self._samples.labels is not None:
            state.update(np.ascontiguousarray(self._samples.labels).tobytes())
        return state.hexdigest()

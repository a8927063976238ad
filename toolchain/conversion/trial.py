"""Versions of one model, judged by the gate on the same samples."""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exporters import provenance
from exporters.errors import NotApplicable, WrongResult
from exporters.model_file import ModelFile
from runtimes.base import Arrays
from toolchain.accuracy import gate, parity
from toolchain.accuracy.gate import DEFAULT, Verdict
from toolchain.accuracy.status import Status
from toolchain.conversion.goal import Goal
from toolchain.conversion.precisions import Methods, Ready
from toolchain.conversion.record import Plan
from toolchain.conversion.search import search
from toolchain.errors import BadUsage
from toolchain.inputs import overlap
from toolchain.inputs.samples import Samples
from toolchain.progress import Progress

Outputs = npt.NDArray[np.generic]
NOTHING_LEFT = (NotApplicable, WrongResult)
"""What a converter says when every node that it could convert is excluded."""
_STEERING = slice(0, None, 2)
_RANKED_ON = 64
"""Samples on which layers are compared."""


class Trial:
    """The model ``src``, what its versions are judged by, and its own outputs on ``samples``, run once."""

    def __init__(self, src: ModelFile, ready: Ready, samples: Samples, goal: Goal) -> None:
        self._src, self._ready, self._goal = src, ready, goal
        self.methods = goal.methods
        self.final = slice(None)
        """Which samples have the last word: all, until a search goes by some."""
        self._requirement = goal.requirement
        judged = goal.requirement is not None or samples.labels is not None
        few = samples.first(parity.SAMPLES, multiple=src.fixed_batch or 1)
        self._samples, self._compared = samples if judged else few, len(few)
        self._expected = self.outputs(src.path)
        self._right = self._judged(self._expected) if judged else None
        if goal.requirement is None and self._right is not None and self._right.ndim == 2:
            self._requirement = DEFAULT

    def outputs(self, path: Path) -> Arrays:
        """What a version gives: on all samples where there is something to judge by, else on those compared."""
        return parity.outputs_of(path, self._samples.inputs, batch=self._src.fixed_batch)

    def compare(self, got: Arrays, precision: str, *, required: bool) -> parity.Parity:
        """The version that gave ``got`` beside the original, on as many samples as a proof runs on."""
        few = [
            {name: array[: self._compared] for name, array in found.items()} for found in (self._expected, got)
        ]  # fmt: skip
        return parity.check_conversion(*few, precision=precision, required=required)

    def judge(self, got: Arrays, part: slice = slice(None)) -> Verdict | None:
        """The verdict on a version's outputs over a part of the samples; None where there is nothing to judge by."""
        return None if self._requirement is None else self._verdict(self._judged(got), part)

    def search(
        self, plain: Verdict, rank: Callable[[Samples], list[str]], *, journal: Path, progress: Progress
    ) -> Plan:
        """Which nodes to leave in float, ``plain`` being the verdict on none; sets ``methods`` and ``final``.

        ``rank`` orders them by the damage that they do on the samples that it is given. Every other sample steers the
        search, the rest give the final verdict, so that the choice is not judged by what it was chosen by.
        """
        assert self._right is not None
        began = time.monotonic()
        if self._verdict(self._right, slice(None)).status is Status.UNDECIDED:
            gate.require(plain)  # these samples could not even tell a perfect copy from a failing one
        steering, self.final = _STEERING, slice(1, None, 2)
        if any(self._verdict(self._right, part).status is Status.UNDECIDED for part in (steering, self.final)):
            progress.warn("There are too few samples to judge the search by others than it goes by: it uses all.")
            steering = self.final = slice(None)
        if self._ready.refine is not None and not self._goal.methods:
            self._take_better(self._ready.refine(self._ranked_on()), steering, progress)
        plan = search(
            rank(self._ranked_on()),
            lambda excluded: self._verdict(self._version(excluded), steering),
            confirm=lambda excluded: self._verdict(self._version(excluded), self.final),
            budget_s=max(self._goal.budget_s - (time.monotonic() - began), 1e-3),
            journal=journal,
            key=self._key(),
            progress=progress,
        )
        exclude = tuple(dict.fromkeys((*self._goal.exclude, *plan.exclude)))
        return replace(plan, exclude=exclude, methods=dict(self.methods), options=dict(self._ready.facts))

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
                made = self._ready.make(Path(folder) / "trial.onnx", chosen, self.methods)
            except NOTHING_LEFT:
                assert self._right is not None
                return self._right
            return self._judged(self.outputs(made.path))

    def _verdict(self, outputs: Outputs, part: slice) -> Verdict:
        assert self._requirement is not None and self._right is not None
        labels = self._samples.labels if self._right.ndim == 2 else None
        count = min(len(outputs), len(self._right))  # a fixed batch leaves an incomplete last one out
        return gate.judge(
            self._requirement, self._right[:count][part], outputs[:count][part],
            None if labels is None else labels[:count][part],
        )  # fmt: skip

    def _judged(self, found: Arrays) -> Outputs:
        """``(N, K)``: the only output, the first where there are labels for it, or all of them side by side."""
        first = next(iter(found.values()))
        if len(found) == 1 or self._samples.labels is not None:
            return first
        count = len(self._samples)
        for name, array in found.items():
            if array.ndim == 0 or len(array) != count:
                raise BadUsage(
                    f"The output '{name}' is {list(array.shape)} for {count} samples: the gate cannot tell them apart.",
                    "It judges models whose outputs have one row a sample; leave the requirement out.",
                )
        return np.concatenate([array.reshape(count, -1) for array in found.values()], axis=1)

    def _ranked_on(self) -> Samples:
        """Samples on which layers are compared: some of those that steer a search, none of those with the last word."""
        steering = self._samples.rows(np.arange(len(self._samples))[_STEERING])
        return steering.first(_RANKED_ON, multiple=self._src.fixed_batch or 1)

    def _key(self) -> str:
        """A digest of all that the verdicts depend on."""
        goal = self._goal
        facts = [
            self._src.sha256, repr(goal.requirement), list(goal.exclude), dict(goal.methods), dict(self.methods),
            dict(self._ready.facts), provenance.tool_versions(),
        ]  # fmt: skip
        state = hashlib.sha256(json.dumps(facts, default=str).encode())
        state.update(overlap.digest(self._samples.inputs).encode())
        if self._samples.labels is not None:
            state.update(np.ascontiguousarray(self._samples.labels).tobytes())
        return state.hexdigest()

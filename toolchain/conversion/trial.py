"""Versions of one model, judged by the gate on the same samples."""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from exporters import onnx_file, provenance
from exporters.artifact import Artifact
from exporters.calibration.thresholds import Method
from exporters.errors import NotApplicable, WrongResult
from exporters.model_file import ModelFile
from runtimes.ort import OrtRuntime
from toolchain.accuracy import gate, output_kinds, running, targets
from toolchain.accuracy.comparison import Comparison, compare, worst
from toolchain.accuracy.gate import Verdict
from toolchain.accuracy.metrics.built_in import TOP1
from toolchain.accuracy.output_values import Calls
from toolchain.accuracy.status import Status
from toolchain.conversion import range_choice
from toolchain.conversion.goal import Goal
from toolchain.conversion.precisions import Methods, Ready
from toolchain.conversion.questions import Nodes
from toolchain.conversion.record import Plan
from toolchain.conversion.search import Evaluate, search
from toolchain.conversion.sharded import SHARDS_A_WORKER, calls_by, calls_in, runs_of
from toolchain.inputs.samples import Samples
from toolchain.processes.workers import HERE, Foresight, Shared, Workers
from toolchain.progress import Progress
from toolchain.stats import Interval

_STEERING = slice(0, None, 2)
Given = Sequence[Calls]
"""What a version gives, once for each way in which it may be computed; requirements are on the first."""
_Opened = list[OrtRuntime] | Verdict | None
T = TypeVar("T")
_RANKED_ON = 64
"""Samples on which layers are compared."""


@dataclass(frozen=True)
class _Asked:
    """Which version to judge, and by which part of the samples."""

    excluded: Nodes
    methods: tuple[tuple[str, Method], ...]
    part: tuple[int | None, int | None, int | None]

    @classmethod
    def of(cls, excluded: Nodes, methods: Methods, part: slice) -> "_Asked":
        return cls(excluded, tuple(methods.items()), (part.start, part.stop, part.step))


_Piece = tuple[_Asked, range | None]
"""A version, and the samples on which it is only to be run; None to judge it."""


class Trial:
    """The model ``src``, what its versions in ``precision`` are judged by, and its own outputs on ``samples``."""

    def __init__(
        self, src: ModelFile, ready: Ready, precision: str, samples: Samples, goal: Goal, workers: Workers = HERE
    ) -> None:
        self._src, self._ready, self._precision, self._goal = src, ready, precision, goal
        self._workers, self._pieces = workers, 1
        self._open: tuple[tuple[Nodes, tuple[tuple[str, Method], ...]], _Opened] | None = None
        self.methods = goal.methods
        self.final = slice(None)
        """Which samples have the last word: all, until a search goes by some."""
        self._axes, self._kinds = src.batch_axes, output_kinds.of(src.proto)
        judged = goal.requirement is not None or samples.labels is not None
        few = samples.first(running.SAMPLES, multiple=src.fixed_batch or 1)
        self._samples = samples if judged else few
        self._on = workers.share(self._samples)
        self._right = calls_by(workers, src, self._on, self._axes)
        self._requirement = goal.requirement
        if goal.requirement is None and samples.labels is not None and self._may_be_judged():
            self._requirement = gate.default_for(goal.metric)

    def __getstate__(self) -> dict[str, Any]:
        """For another process: what judges a version, and nobody to hand it on to."""
        return vars(self) | {"_workers": HERE, "_right": list(self._right), "_samples": None, "_open": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._samples = self._on.value

    def _may_be_judged(self) -> bool:
        """Whether the labels are for the model's outputs; they need not be where nobody named a metric."""
        return self._goal.metric is not TOP1 or gate.classifies(self._right, self._axes.outputs)

    @property
    def gated(self) -> bool:
        """Whether the accuracy gate has a say, asked for or because there are labels."""
        return self._requirement is not None

    def made(self, path: Path, exclude: Collection[str], methods: Methods) -> tuple[Artifact, Given]:
        """A version written to ``path``, and what it gives, each way that it may be computed.

        On all samples where there is something to judge by, else on those compared. In half precision it is run twice:
        as hardware computes it, and as ONNX Runtime does on this CPU, which rounds less, has no kernel for some
        operators and fuses others wrongly. Raises NotApplicable where nothing is converted: by the converter, or
        because the file computes in what it was made of.
        """
        began = time.monotonic()
        artifact, file = self._written(path, exclude, methods)
        written = time.monotonic()
        got = [calls_by(self._workers, file, self._on, self._axes, as_hardware=way) for way in self._ways]
        self._divide(written - began, time.monotonic() - written)
        return artifact, got

    def _written(self, path: Path, exclude: Collection[str], methods: Methods) -> tuple[Artifact, ModelFile]:
        artifact = self._ready.make(path, exclude, methods)
        file = ModelFile(path)
        if file.precision == onnx_file.precision_of(self._src.normal):  # its weights may be stored in another
            why = onnx_file.some(artifact.notes)
            raise NotApplicable(
                f"Nothing in {self._src} was converted to {self._precision}{': ' * bool(why)}{why}.",
                "Ship the original, or another precision.",
            )
        file.release()  # its sessions need the memory
        return artifact, file

    @property
    def _ways(self) -> tuple[bool, ...]:
        return (True, False) if self._precision == "fp16" else (True,)

    def _divide(self, making_s: float, running_s: float) -> None:
        """Have a version run by several where that takes much longer than making it, which each of them must.

        Not where it gives much: one who judges it keeps that.
        """
        most = self._workers.count if isinstance(self._right, list) else 1
        worthwhile = int(running_s * most / (2 * max(making_s, 1e-3)))
        self._pieces = max(1, min(most, worthwhile))

    def compare(self, got: Given) -> Comparison:
        """What gave ``got`` beside the original, by the precision's rule: the way that comes out worse."""
        found = [
            compare(
                self._right, calls, precision=self._precision, samples=len(self._samples), kinds=self._kinds,
                axes=self._axes.outputs, classes=targets.are_classes(self._samples.labels), real=self._samples.real,
            )
            for calls in got
        ]  # fmt: skip
        return worst(found)

    def judge(self, got: Given, part: slice = slice(None)) -> Verdict:
        """The gate's verdict on a version's outputs over a part of the samples.

        Where nobody asked for anything that of the precision's rule on all of them comes first, and may be all.
        """
        if self._goal.requirement is None:
            compared = self.compare(got)
            if not compared.passed or self._requirement is None:
                return _by_rule(compared)
        return self._verdict(got, part)

    def search(
        self, plain: Verdict, got: Given, rank: Callable[[Samples], list[str]], *, journal: Path, progress: Progress
    ) -> Plan:
        """Which nodes to leave in float; sets ``methods`` and ``final``.

        ``got`` is what the version with none of them gave, and ``plain`` the verdict on it. ``rank`` orders them by the
        damage that they do on the samples that it is given. Every other sample steers the search, the rest give the
        final verdict, so that the choice is not judged by what it was chosen by.
        """
        began = time.monotonic()
        if self.judge([self._right]).status is Status.UNDECIDED:
            gate.require(plain)  # these samples could not even tell a perfect copy from a failing one
        steering, self.final = _STEERING, slice(1, None, 2)
        if self._goal.requirement is None:  # the rule is coarse: nothing is won by what is lucky on some samples
            steering = self.final = slice(None)
        elif any(self.judge([self._right], part).status is Status.UNDECIDED for part in (steering, self.final)):
            progress.warn("There are too few samples to judge the search by others than it goes by: it uses all.")
            steering = self.final = slice(None)
        shared = self._workers.share(self)
        judging: Foresight[_Asked, _Piece, Given | Verdict | None] = Foresight(
            self._workers, _judge, shared, self._pieces_of
        )
        by_steering = plain if steering == slice(None) else self.judge(got, steering)
        known = {self._asked(frozenset(), steering): by_steering}

        def verdict_on(asked: _Asked, likely: Iterator[_Asked]) -> Verdict:
            if asked not in known:
                known[asked] = self._joined(asked, judging.answer(asked, likely))
            return known[asked]

        def judged(part: slice) -> Evaluate:
            return lambda excluded, likely: verdict_on(
                self._asked(excluded, part), (self._asked(each, part) for each in likely)
            )

        compared = () if self._goal.methods else self._ready.compared  # unless somebody chose
        noise = [self._workers.ask(_noise, shared, method) for method in compared]
        ranked = rank(self.ranked_on())  # meanwhile
        found = {method: each.result() for method, each in zip(compared, noise, strict=True)}
        if methods := range_choice.best_by_tensor(found):
            before = verdict_on(self._asked(frozenset(), steering), iter(()))
            after = verdict_on(_Asked.of(frozenset(), methods, steering), iter(()))
            if before.sqnr_db and after.sqnr_db and after.sqnr_db.estimate > before.sqnr_db.estimate:
                progress.note(f"other methods for {len(methods)} tensors: {after.brief}")
                self.methods = methods
        plan = search(
            ranked,
            judged(steering),
            confirm=judged(self.final) if self.final != steering else None,
            budget_s=self._goal.budget_s,
            spent_s=time.monotonic() - began,
            most=self._goal.trials,
            journal=journal,
            key=self._key(),
            required=self._goal.requirement is not None,
            progress=progress,
        )
        exclude = tuple(dict.fromkeys((*self._goal.exclude, *plan.exclude)))
        return replace(plan, exclude=exclude, methods=dict(self.methods), options=dict(self._ready.facts))

    def _asked(self, excluded: Nodes, part: slice) -> "_Asked":
        return _Asked.of(excluded, self.methods, part)

    def judged(self, asked: _Asked) -> Verdict:
        """The verdict on the version that is asked for."""
        return self._joined(asked, [self.given(asked)])

    def given(self, asked: _Asked, run: range | None = None) -> "Given | Verdict | None":
        """What the version that is asked for gives, on all samples or one of :func:`runs_of`.

        None where nothing is left to convert, and a verdict where the converter makes no right file. What is run in
        parts stays open for the next part.
        """
        if run is None:
            return self._tried(asked, lambda path, exclude, methods: self.made(path, exclude, methods)[1])
        opened = self._opened(asked)
        if opened is None or isinstance(opened, Verdict):
            return opened
        return [list(calls_in(run, each, self._samples, self._axes)) for each in opened]

    def _opened(self, asked: _Asked) -> _Opened:
        """A session for each way in which the version may be computed, or why there is none."""

        def sessions(path: Path, exclude: Collection[str], methods: Methods) -> list[OrtRuntime]:
            file = self._written(path, exclude, methods)[1]
            return [running.opened(file, as_hardware=way) for way in self._ways]

        version = asked.excluded, asked.methods
        if self._open is None or self._open[0] != version:
            self._open = None  # before the next takes its memory
            self._open = version, self._tried(asked, sessions)
        return self._open[1]

    def _tried(self, asked: _Asked, make: Callable[[Path, Collection[str], Methods], T]) -> T | Verdict | None:
        """What ``make`` makes of the version, in a folder that goes, or what :meth:`given` says of none."""
        with tempfile.TemporaryDirectory(prefix="nnx-trial-", ignore_cleanup_errors=True) as folder:
            exclude = [*self._goal.exclude, *sorted(asked.excluded)]
            try:
                return make(Path(folder) / "trial.onnx", exclude, dict(asked.methods))
            except NotApplicable:
                return None
            except WrongResult as wrong:
                return Verdict(status=Status.UNPROVEN, text=wrong.what, samples=len(self._samples))

    def _pieces_of(self, asked: _Asked) -> Sequence[_Piece]:
        """As many as make the version; more where all do, for whom it is one question more to a session."""
        all_do = 1 < self._pieces == self._workers.count
        runs = runs_of(self._samples.inputs, self._axes, self._pieces * (SHARDS_A_WORKER if all_do else 1))
        return [(asked, run) for run in runs] if len(runs) > 1 else [(asked, None)]

    def _joined(self, asked: _Asked, found: "Sequence[Given | Verdict | None]") -> Verdict:
        """The verdict by what came of the pieces: on the original where nothing is left to convert."""
        got: list[Calls] = [[] for _ in self._ways]
        for each in found:
            if isinstance(each, Verdict):
                return each
            if each is None:
                got = [self._right]
                break
            got = [calls if len(found) == 1 else [*before, *calls] for before, calls in zip(got, each, strict=True)]
        return self.judge(got, slice(*asked.part))

    def noise_by(self, method: Method) -> Mapping[str, float]:
        """What ``method`` for all ranges costs single tensors."""
        return self._ready.noise_by(method, self.ranked_on())

    def _verdict(self, got: Given, part: slice) -> Verdict:
        assert self._requirement is not None
        labels = self._samples.labels
        if labels is not None and self._axes.fixed:  # a fixed batch leaves an incomplete last one out
            count = targets.count(labels)
            labels = targets.taken(labels, slice(max(count - count % self._axes.fixed, 1)))
        return gate.judge(
            self._requirement, self._right, got[0], labels, metric=self._goal.metric, axes=self._axes.outputs, part=part
        )  # fmt: skip

    def ranked_on(self) -> Samples:
        """Samples on which layers are compared: some of those that steer a search, none of those with the last word."""
        steering = np.arange(len(self._samples))[_STEERING]
        return self._samples.first(_RANKED_ON, multiple=self._src.fixed_batch or 1, of=steering)

    def _key(self) -> str:
        """A digest of all that the verdicts depend on."""
        goal = self._goal
        facts = [
            self._src.sha256, repr(goal.requirement), repr(goal.metric), list(goal.exclude), dict(goal.methods),
            dict(self.methods),
            dict(self._ready.facts), provenance.tool_versions(),
        ]  # fmt: skip
        state = hashlib.sha256(json.dumps(facts, default=str).encode())
        state.update(self._samples.sha256.encode())
        if self._samples.labels is not None:
            state.update(targets.digest(self._samples.labels).encode())
        return state.hexdigest()


def _by_rule(compared: Comparison) -> Verdict:
    """The precision's rule, as the gate would say it."""
    noise = None if compared.sqnr_db is None else Interval(*[compared.sqnr_db] * 3)
    passed = compared.passed
    return Verdict(
        status=Status.OK if passed else Status.UNPROVEN,
        text=f"On {compared.samples:,} samples {str(compared) if passed else compared.why}.",
        samples=compared.samples,
        sqnr_db=noise,
    )


def _judge(trial: Shared[Trial], piece: _Piece) -> "Given | Verdict | None":
    asked, run = piece
    return trial.value.judged(asked) if run is None else trial.value.given(asked, run)


def _noise(trial: Shared[Trial], method: Method) -> Mapping[str, float]:
    return trial.value.noise_by(method)

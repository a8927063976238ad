"""The accuracy gate: passed, not passed, or undecided for want of samples.

Every criterion is an interval against a limit. The intervals are two-sided at 90 %, so each end is a one-sided 95 %
bound: a model passes only when 95 % bounds say so, and fails only when they do.

    the whole interval on the right side of the limit     OK
    the whole interval on the wrong side                  UNPROVEN
    the limit inside the interval                         UNDECIDED, with the samples that it would take

``nnx bench`` and the conversions judge by this one rule.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toolchain import stats
from toolchain.accuracy import criteria
from toolchain.accuracy.comparison import lost_channels
from toolchain.accuracy.criteria import LEVEL, Drop, Finding
from toolchain.accuracy.metrics.built_in import TOP1
from toolchain.accuracy.metrics.collecting import rows_of
from toolchain.accuracy.metrics.metric import Measure, Metric, Targets
from toolchain.accuracy.number_outputs import Mask, Numbers
from toolchain.accuracy.output_values import Calls, NotAlike, unfolded
from toolchain.accuracy.status import Status
from toolchain.errors import BadUsage, CheckFailed, Undecided
from toolchain.stats import Interval

Array = npt.NDArray[np.generic]
Axes = Mapping[str, int | None]
_ODD = "is NaN or infinite where the reference's is not, or the other way round"
_REFERENCE_BROKEN = "The reference itself gives NaN or infinity."
_MEND_REFERENCE = "Mend the fp32 model, or leave the samples concerned out."
_WORDS = {Status.OK: "passed", Status.UNDECIDED: "undecided", Status.UNPROVEN: "failed"}


def _in_range(option: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise BadUsage(f"{option} is {value:g}.", f"Give a number from {low:g} to {high:g}.")


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """What a model must keep of its reference: at least one limit; raises BadUsage when none or out of range.

    ``max_drop`` is in the metric's unit, a share of the samples (0.01 is a point) for accuracy, infinity for one that
    nothing is asked of; ``min_cosine`` is of the mean over samples. Where nobody ``asked`` for a limit, samples too few
    to tell are no reason to doubt a drop that looks allowed.
    """

    max_drop: float | None = None
    min_sqnr_db: float | None = None
    min_cosine: float | None = None
    asked: bool = True

    def __post_init__(self) -> None:
        if self.max_drop is None and self.min_sqnr_db is None and self.min_cosine is None:
            raise BadUsage("The gate has nothing to require.", "Give --max-drop, --min-sqnr or --min-cosine.")
        if self.max_drop is not None and not self.max_drop >= 0:
            raise BadUsage(f"--max-drop is {100 * self.max_drop:g}.", "Give a number from 0 on.")
        _in_range("--min-sqnr", self.min_sqnr_db, -200, 200)
        _in_range("--min-cosine", self.min_cosine, -1, 1)


DEFAULT = Requirement(max_drop=0.02, asked=False)
"""For labelled samples where nothing else is asked for."""


def default_for(metric: Metric) -> Requirement:
    """The same for any metric: of one that is no share nobody but the user knows what is much, so it is only told."""
    return DEFAULT if metric.share else Requirement(max_drop=math.inf, asked=False)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The gate's answer in one sentence, ``text``, and what it rests on.

    ``drop`` is what is lost of the ``metric``, None without labels; of accuracy, and where ``metric`` is None, it is a
    share (0.01 is a point). ``sqnr_db`` and ``cosine`` are None when an output is
    not a number. ``samples_needed`` is set when undecided, at the rates seen so far; None when no number would do.
    """

    status: Status
    text: str
    samples: int
    drop: Interval | None = None
    sqnr_db: Interval | None = None
    cosine: Interval | None = None
    samples_needed: int | None = None
    metric: Measure | None = None

    @property
    def word(self) -> str:
        """The answer in one word, for a person."""
        return _WORDS[self.status]

    @property
    def brief(self) -> str:
        """The answer and the figure behind it, for a line of progress."""
        if self.drop is not None:
            measure = self.metric or TOP1
            what = measure.worse if self.metric else "drop"
            shown, low, high = map(measure.difference, (self.drop.estimate, self.drop.low, self.drop.high))
            return f"{self.word}, {what} {shown}{measure.unit} ({low} to {high})"
        if self.sqnr_db is not None:
            return f"{self.word}, SQNR {self.sqnr_db.estimate:.1f} dB"
        return self.word


def judge(
    requirement: Requirement,
    reference: Calls,
    given: Calls,
    labels: Targets | None = None,
    *,
    metric: Metric = TOP1,
    axes: Axes | None = None,
    part: slice = slice(None),
) -> Verdict:
    """Judge the calls ``given`` against ``reference``, the same calls; ``labels`` are the right answers of all samples.

    A sample is a row along the output's batch axis (``axes``; its first without them), and a call where it has none;
    ``part`` takes some of the samples. The drop is what is lost of the ``metric``, by default of top-1 answers of
    ``(N, K)`` scores, sample by sample (:mod:`.metrics.intervals`). SQNR (:func:`stats.sqnr_of`) and the mean cosine
    over samples with Student's t interval are those of the worst output of numbers: both only approximate below some
    ten samples, and one sample alone leaves them undecided. What they ask of an output they ask of each of its channels
    too (:mod:`.channels`), by the channel's own range. Several criteria must all pass. NaN and infinities that the
    reference has not fail.

    Raises BadUsage for outputs and labels that do not belong together, for a reference that is nowhere finite, for
    what the metric cannot judge, and for a drop without labels.
    """
    if labels is None and requirement.max_drop is not None:
        raise BadUsage(
            f"A {metric.worse} cannot be measured without labels.",
            "Give labelled samples, or --min-sqnr or --min-cosine instead of --max-drop.",
        )
    floors = requirement.min_sqnr_db is not None or requirement.min_cosine is not None
    all_outputs = _numbers(reference, given, axes, needed=floors or labels is None)
    if any(numbers.nothing_finite for numbers in all_outputs.values()):
        raise BadUsage(_REFERENCE_BROKEN, _MEND_REFERENCE)
    outputs = {name: numbers.rows(part) for name, numbers in all_outputs.items()}
    before = None if labels is None else rows_of(metric, reference, labels, axes)[part]
    count = max([len(numbers) for numbers in outputs.values()], default=0 if before is None else len(before))
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu" and _scores_have_nan(outputs):
        raise BadUsage(_REFERENCE_BROKEN, _MEND_REFERENCE)
    measure = None if metric.name == TOP1.name else metric.measure
    broken = {name: numbers.broken_samples for name, numbers in outputs.items() if numbers.broken}
    if broken:
        name, many = max(broken.items(), key=lambda pair: pair[1])
        text = f"Output '{name}' of {many:,} of {count:,} samples {_ODD}, which never passes."
        return Verdict(status=Status.UNPROVEN, text=text, samples=count, metric=measure)
    drop, findings = None, []
    if before is not None and labels is not None:
        lost = Drop.of(metric, before, rows_of(metric, given, labels, axes)[part])
        drop = lost.interval
        if requirement.max_drop is not None:
            findings.append(lost.judged(requirement.max_drop, asked=requirement.asked))
    sqnr, sqnr_of = _worst_of(_sqnr, outputs)
    if requirement.min_sqnr_db is not None and sqnr is not None:
        title = _titled("SQNR", sqnr_of, outputs)
        findings.append(criteria.floor(title, ".1f", " dB", sqnr, requirement.min_sqnr_db, count))
    cosine, cosine_of = _worst_of(_mean_cosine, outputs)
    if requirement.min_cosine is not None and cosine is not None:
        title = _titled("mean cosine", cosine_of, outputs)
        findings.append(criteria.floor(title, ".5f", "", cosine, requirement.min_cosine, count))
    if floors:
        findings += _judge_channels(requirement, outputs)
    status = _worst([finding.status for finding in findings])
    text = f"On {count:,} sample{'s' if count > 1 else ''} " + "; ".join(finding.text for finding in findings) + "."
    needed = [finding.samples_needed for finding in findings if finding.status is Status.UNDECIDED]
    known = [number for number in needed if number is not None]
    return Verdict(
        status=status, text=text, samples=count, drop=drop, sqnr_db=sqnr, cosine=cosine, metric=measure,
        samples_needed=max(known) if status is Status.UNDECIDED and len(known) == len(needed) else None,
    )  # fmt: skip


def _worst_of(
    figure: Callable[[Numbers, Sequence[Mask]], Interval], outputs: Mapping[str, Numbers]
) -> tuple[Interval | None, str]:
    """The least of a figure, and the output that it is of; None where no output is a number."""
    found = [(figure(numbers, keep), name) for name, numbers in outputs.items() for keep in numbers.parts]
    return min(found, key=lambda pair: pair[0].estimate, default=(None, ""))


def _scores_have_nan(outputs: Mapping[str, Numbers]) -> bool:
    """Whether the reference's class scores, the first that there are, are NaN anywhere."""
    scores = (
        numbers
        for numbers in outputs.values()
        if numbers.batch == 0 and all(array.ndim == 2 and array.shape[1] > 1 for array in numbers.wanted)
    )
    first = next(scores, None)
    return first is not None and first.reference_has_nan


def classifies(calls: Calls, axes: Axes | None) -> bool:
    """Whether an output could be class scores: numbers ``(N, K)``, a row a sample."""
    return any(
        (0 if axes is None else axes.get(name)) == 0 and isinstance(value, np.ndarray) and value.dtype.kind == "f"
        and value.ndim == 2 and value.shape[1] > 1
        for name, value in calls[0].items()
    )  # fmt: skip


def require(verdict: Verdict) -> None:
    """Raise CheckFailed for a verdict that failed, Undecided for one that is undecided."""
    if verdict.status is Status.UNPROVEN:
        raise CheckFailed(verdict.text, "Keep the most damaging nodes in float, or loosen the requirement.")
    if verdict.status is Status.UNDECIDED:
        raise Undecided(verdict.text, advice_on_samples(verdict))


def advice_on_samples(verdict: Verdict) -> str:
    """What to do about an undecided verdict."""
    if verdict.samples_needed is None:
        return "Give more samples, or a requirement that is not exactly what was measured."
    return f"Give about {verdict.samples_needed:,} samples, or loosen the requirement."


def _worst(found: list[Status]) -> Status:
    return next(status for status in (Status.UNPROVEN, Status.UNDECIDED, Status.OK) if status in found)


def _sqnr(numbers: Numbers, keep: Sequence[Mask]) -> Interval:
    signal, _, noise, _ = numbers.samples(keep)
    return stats.sqnr_of(signal, noise, LEVEL)


def _mean_cosine(numbers: Numbers, keep: Sequence[Mask]) -> Interval:
    """The mean cosine of each sample's two outputs as flat vectors; 1 for two that are zero, 0 for one that is."""
    wanted, got, _, product = numbers.samples(keep)
    lengths = np.sqrt(wanted) * np.sqrt(got)
    cosines = np.where(lengths > 0, product / np.where(lengths > 0, lengths, 1), (wanted == 0) & (got == 0))
    mean = stats.mean(cosines.round(12), LEVEL)  # equal outputs give 1, not 1 - 1e-16
    return Interval(mean.estimate, max(mean.low, -1.0), min(mean.high, 1.0))


def _judge_channels(requirement: Requirement, outputs: Mapping[str, Numbers]) -> list[Finding]:
    """What fails because a channel does that the whole output hides."""
    found = []
    for name, numbers in outputs.items():
        channels = numbers.channels(rounding=0.0)
        if requirement.min_sqnr_db is not None:
            lost = lost_channels(name, channels, requirement.min_sqnr_db)
            found += [Finding(Status.UNPROVEN, text, None) for text in lost]
        if requirement.min_cosine is not None and not found:
            limit = requirement.min_cosine
            unlike = [channel for channel in channels if channel.unlike(limit)]
            worst = min(unlike, key=lambda channel: (not channel.constant, channel.correlation), default=None)
            if worst is not None:
                what = "became constant" if worst.constant else f"has a correlation of {worst.correlation:.5f}"
                place = ", ".join(filter(None, (f"output '{name}'", str(worst))))
                found.append(Finding(Status.UNPROVEN, f"{place} {what}", None))
    return found


def _titled(what: str, name: str, outputs: Mapping[str, Numbers]) -> str:
    return what if len(outputs) == 1 else f"{what} of output '{name}'"


def _numbers(reference: Calls, given: Calls, axes: Axes | None, *, needed: bool) -> dict[str, Numbers]:
    """The outputs that are numbers, and have the same shapes in both; BadUsage where one is needed and none is."""
    found: dict[str, Numbers] = {}
    empty = ""
    if not reference or len(reference) != len(given):
        raise _not_alike(f"{len(reference):,} calls", f"{len(given):,}")
    for name in reference[0]:
        axis = 0 if axes is None else axes.get(name)
        try:
            pairs = unfolded(name, reference, given)
        except (KeyError, NotAlike):
            continue  # the comparison says so
        for part, (wanted, got) in pairs.items():
            if wanted[0].dtype.kind != "f":
                continue
            shapes = {(w.shape, g.shape) for w, g in zip(wanted, got, strict=True) if w.shape != g.shape}
            if shapes and (axis is None or any(a[axis : axis + 1] == b[axis : axis + 1] for a, b in shapes)):
                continue  # of a length that the data decide: rows are compared as sets elsewhere
            if shapes:
                raise _not_alike(*(str(list(arrays[0].shape)) for arrays in (wanted, got)))
            if any(w.size for w in wanted):
                found[part] = Numbers.of(wanted, got, batch=axis)
            else:
                empty = str(list(wanted[0].shape))
    if not found and empty:
        raise _not_alike(empty, empty)
    if not found and needed:
        raise BadUsage(
            "No output of the model is a number that could be judged.", "Leave the requirement out."
        )  # fmt: skip
    return found


def _not_alike(reference: str, given: str) -> BadUsage:
    return BadUsage(
        f"The reference gives {reference} and the model {given}: they cannot be compared.",
        "Run both models on the same samples, at least one.",
    )

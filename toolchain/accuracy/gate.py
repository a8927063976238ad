"""The accuracy gate: passed, not passed, or undecided for want of samples.

Every criterion is an interval against a limit. The intervals are two-sided at 90 %, so each end is a one-sided 95 %
bound: a model passes only when 95 % bounds say so, and fails only when they do.

    the whole interval on the right side of the limit     OK
    the whole interval on the wrong side                  UNPROVEN
    the limit inside the interval                         UNDECIDED, with the samples that it would take

``nnx bench`` and the conversions judge by this one rule.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from toolchain import stats
from toolchain.accuracy import metrics
from toolchain.accuracy.status import Status
from toolchain.errors import BadUsage, CheckFailed, Undecided
from toolchain.stats import Interval

LEVEL = 0.90
"""The two-sided level whose ends are one-sided 95 % bounds."""
Array = npt.NDArray[np.generic]
_WORDS = {Status.OK: "passed", Status.UNDECIDED: "undecided", Status.UNPROVEN: "failed"}
_POINT = NormalDist().inv_cdf((1 + LEVEL) / 2)


def _in_range(option: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise BadUsage(f"{option} is {value:g}.", f"Give a number from {low:g} to {high:g}.")


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """What a model must keep of its reference: at least one limit; raises BadUsage when none or out of range.

    ``max_drop`` is a share of the samples (0.01 is a point of top-1 accuracy), ``min_cosine`` is of the mean over
    samples. Where nobody ``asked`` for a limit, samples too few to tell are no reason to doubt a drop that looks
    allowed.
    """

    max_drop: float | None = None
    min_sqnr_db: float | None = None
    min_cosine: float | None = None
    asked: bool = True

    def __post_init__(self) -> None:
        if self.max_drop is None and self.min_sqnr_db is None and self.min_cosine is None:
            raise BadUsage("The gate has nothing to require.", "Give --max-drop, --min-sqnr or --min-cosine.")
        _in_range("--max-drop", None if self.max_drop is None else 100 * self.max_drop, 0, 100)
        _in_range("--min-sqnr", self.min_sqnr_db, -200, 200)
        _in_range("--min-cosine", self.min_cosine, -1, 1)


DEFAULT = Requirement(max_drop=0.02, asked=False)
"""For labelled samples where nothing else is asked for."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The gate's answer in one sentence, ``text``, and what it rests on.

    ``drop`` is a share (0.01 is a point), None without labels; ``sqnr_db`` and ``cosine`` are None when an output is
    not a number. ``samples_needed`` is set when undecided, at the rates seen so far; None when no number would do.
    """

    status: Status
    text: str
    samples: int
    drop: Interval | None = None
    sqnr_db: Interval | None = None
    cosine: Interval | None = None
    samples_needed: int | None = None

    @property
    def word(self) -> str:
        """The answer in one word, for a person."""
        return _WORDS[self.status]

    @property
    def brief(self) -> str:
        """The answer and the figure behind it, for a line of progress."""
        if self.drop is not None:
            low, high = 100 * self.drop.low, 100 * self.drop.high
            return f"{self.word}, drop {100 * self.drop.estimate:.2f} points ({low:.2f} to {high:.2f})"
        if self.sqnr_db is not None:
            return f"{self.word}, SQNR {self.sqnr_db.estimate:.1f} dB"
        return self.word


@dataclass(frozen=True)
class _Finding:
    """One criterion's answer."""

    status: Status
    text: str
    samples_needed: int | None


def judge(requirement: Requirement, reference: Array, given: Array, labels: Array | None = None) -> Verdict:
    """Judge ``given`` ``(N, ...)`` against ``reference`` on the same N samples; ``labels`` ``(N,)`` are class numbers.

    The drop compares top-1 answers of ``(N, K)`` scores, sample by sample (:func:`stats.paired_drop`). SQNR is over
    all outputs (:func:`stats.sqnr`), the cosine is the mean over samples with Student's t interval: both only
    approximate below some ten samples, and one sample alone leaves them undecided. Several criteria must all pass.
    NaN and infinity in ``given`` fail. Raises BadUsage for outputs and labels that do not belong together, for a
    reference that is not finite, and for a drop without labels.
    """
    _check(requirement, reference, given, labels)
    count = len(reference)
    broken = ~np.isfinite(given.reshape(count, -1)).all(1)
    if broken.any():
        text = f"The outputs of {broken.sum():,} of {count:,} samples are NaN or infinite, which never passes."
        return Verdict(status=Status.UNPROVEN, text=text, samples=count)
    drop, sqnr, cosine = None, stats.sqnr(reference, given, LEVEL), _mean_cosine(reference, given)
    findings = []
    if labels is not None:
        lost, gained = discordant(reference, given, labels)
        drop = stats.paired_drop(lost, gained, count, LEVEL)
        if requirement.max_drop is not None:
            findings.append(_judge_drop(requirement.max_drop, drop, lost, gained, count, asked=requirement.asked))
    if requirement.min_sqnr_db is not None:
        findings.append(_judge_floor("SQNR", ".1f", " dB", sqnr, requirement.min_sqnr_db, count))
    if requirement.min_cosine is not None:
        findings.append(_judge_floor("mean cosine", ".5f", "", cosine, requirement.min_cosine, count))
    status = _worst([finding.status for finding in findings])
    text = f"On {count:,} sample{'s' if count > 1 else ''} " + "; ".join(finding.text for finding in findings) + "."
    needed = [finding.samples_needed for finding in findings if finding.status is Status.UNDECIDED]
    known = [number for number in needed if number is not None]
    return Verdict(
        status=status, text=text, samples=count, drop=drop, sqnr_db=sqnr, cosine=cosine,
        samples_needed=max(known) if status is Status.UNDECIDED and len(known) == len(needed) else None,
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


def samples_needed(*, lost: int, gained: int, count: int, max_drop: float) -> int | None:
    """How many samples decide about ``max_drop`` (a share) if the observed shares of lost and gained ones persist.

    The score at ``max_drop`` grows with the root of the count, so no search is needed. None when the observed drop is
    the limit itself, which no number decides.
    """
    if math.isclose((lost - gained) / count, max_drop, rel_tol=1e-9, abs_tol=1e-12):
        return None
    score = stats.paired_score(lost, gained, count, max_drop)
    return _round_up(count * (_POINT / score) ** 2)


def _judge_drop(limit: float, drop: Interval, lost: int, gained: int, count: int, *, asked: bool) -> _Finding:
    points = [f"{100 * value:.2f}" for value in (drop.estimate, drop.low, drop.high)]
    text = (
        f"the drop in accuracy is {points[0]} points (95 % bounds {points[1]} and {points[2]}; {lost:,} answers lost, "
        f"{gained:,} gained), and at most {100 * limit:g} is allowed"
    )
    if drop.high <= limit or (not asked and drop.estimate <= limit):
        return _Finding(Status.OK, text, None)
    if drop.low > limit:
        return _Finding(Status.UNPROVEN, text, None)
    return _undecided(text, samples_needed(lost=lost, gained=gained, count=count, max_drop=limit))


def _judge_floor(name: str, form: str, unit: str, value: Interval, limit: float, count: int) -> _Finding:
    text = f"the {name} is {value.estimate:{form}}{unit}"
    if count > 1:
        text += f" (95 % bounds {value.low:{form}} and {value.high:{form}})"
    text += f", and at least {limit:g}{unit} is wanted"
    if value.low >= limit:
        return _Finding(Status.OK, text, None)
    if value.high < limit:
        return _Finding(Status.UNPROVEN, text, None)
    gap, half = abs(value.estimate - limit), (value.high - value.low) / 2
    return _undecided(text, _round_up(count * (half / gap) ** 2) if gap and count > 1 else None)


def _undecided(text: str, needed: int | None) -> _Finding:
    more = f"it would take about {needed:,} samples to tell" if needed else "these samples cannot tell"
    return _Finding(Status.UNDECIDED, f"{text}: {more}", needed)


def _worst(found: list[Status]) -> Status:
    return next(status for status in (Status.UNPROVEN, Status.UNDECIDED, Status.OK) if status in found)


def discordant(reference: Array, given: Array, labels: Array) -> tuple[int, int]:
    """(samples that only the reference has right, samples that only ``given`` has right)."""
    before, after = metrics.right(reference, labels), metrics.right(given, labels)
    return int((before & ~after).sum()), int((after & ~before).sum())


def _mean_cosine(reference: Array, given: Array) -> Interval:
    """The mean cosine of each sample's two outputs as flat vectors; 1 for two that are zero, 0 for one that is."""
    wanted, got = (array.reshape(len(array), -1).astype(np.float64) for array in (reference, given))
    lengths = np.linalg.norm(wanted, axis=1) * np.linalg.norm(got, axis=1)
    both_zero = ~wanted.any(1) & ~got.any(1)
    cosines = np.where(lengths > 0, (wanted * got).sum(1) / np.where(lengths > 0, lengths, 1), both_zero)
    mean = stats.mean(cosines.round(12), LEVEL)  # equal outputs give 1, not 1 - 1e-16
    return Interval(mean.estimate, max(mean.low, -1.0), min(mean.high, 1.0))


def _check(requirement: Requirement, reference: Array, given: Array, labels: Array | None) -> None:
    if reference.shape != given.shape or not reference.size:
        raise BadUsage(
            f"The reference gives {list(reference.shape)} and the model {list(given.shape)}: they cannot be compared.",
            "Run both models on the same samples, at least one.",
        )
    if not np.isfinite(reference).all():
        raise BadUsage(
            "The reference itself gives NaN or infinity.", "Mend the fp32 model, or leave the samples concerned out."
        )
    if labels is None:
        if requirement.max_drop is not None:
            raise BadUsage(
                "A drop in accuracy cannot be measured without labels.",
                "Give labelled samples, or --min-sqnr or --min-cosine instead of --max-drop.",
            )
    elif reference.ndim != 2 or reference.shape[1] < 2 or labels.shape != (len(reference),):
        raise BadUsage(
            f"Accuracy wants class scores (N, K) for {labels.size:,} labels, the model gave {list(reference.shape)}.",
            "Leave the labels out for a model that does not classify, and use --min-sqnr or --min-cosine.",
        )
    elif not (labels.min() >= 0 and labels.max() < reference.shape[1]):
        raise BadUsage(
            f"The labels go from {labels.min()} to {labels.max()}, the model scores {reference.shape[1]} classes.",
            "Save them as class numbers that count from 0.",
        )


def _round_up(number: float) -> int:
    """The next whole number, forgiving what rounding added to one."""
    return max(1, math.ceil(number * (1 - 1e-12)))

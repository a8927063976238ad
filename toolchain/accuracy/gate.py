"""The accuracy gate: passed, not passed, or undecided for want of samples.

Every criterion is an interval against a limit. The intervals are two-sided at 90 %, so each end is a one-sided 95 %
bound: a model passes only when 95 % bounds say so, and fails only when they do.

    the whole interval on the right side of the limit     OK
    the whole interval on the wrong side                  UNPROVEN
    the limit inside the interval                         UNDECIDED, with the samples that it would take

``nnx bench`` and the conversions judge by this one rule.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from toolchain import stats
from toolchain.accuracy.comparison import lost_channels
from toolchain.accuracy.metrics import classes
from toolchain.accuracy.number_outputs import Mask, Numbers
from toolchain.accuracy.output_values import Calls, NotAlike, unfolded
from toolchain.accuracy.status import Status
from toolchain.errors import BadUsage, CheckFailed, Undecided
from toolchain.stats import Interval

LEVEL = 0.90
"""The two-sided level whose ends are one-sided 95 % bounds."""
Array = npt.NDArray[np.generic]
Axes = Mapping[str, int | None]
_ODD = "is NaN or infinite where the reference's is not, or the other way round"
_REFERENCE_BROKEN = "The reference itself gives NaN or infinity."
_MEND_REFERENCE = "Mend the fp32 model, or leave the samples concerned out."
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


def judge(
    requirement: Requirement,
    reference: Calls,
    given: Calls,
    labels: Array | None = None,
    *,
    axes: Axes | None = None,
    part: slice = slice(None),
) -> Verdict:
    """Judge the calls ``given`` against ``reference``, the same calls; ``labels`` ``(N,)`` are class numbers.

    A sample is a row along the output's batch axis (``axes``; its first without them), and a call where it has none;
    ``part`` takes some of the samples. The drop compares top-1 answers of ``(N, K)`` scores, sample by sample
    (:func:`stats.paired_drop`). SQNR (:func:`stats.sqnr_of`) and the mean cosine over samples with Student's t interval
    are those of the worst output of numbers: both only approximate below some ten samples, and one sample alone leaves
    them undecided. What they ask of an output they ask of each of its channels too (:mod:`.channels`), by the channel's
    own range. Several criteria must all pass. NaN and infinities that the reference has not fail.

    Raises BadUsage for outputs and labels that do not belong together, for a reference that is nowhere finite, and for
    a drop without labels.
    """
    if labels is None and requirement.max_drop is not None:
        raise BadUsage(
            "A drop in accuracy cannot be measured without labels.",
            "Give labelled samples, or --min-sqnr or --min-cosine instead of --max-drop.",
        )
    all_outputs = _numbers(reference, given, axes)
    if any(numbers.nothing_finite for numbers in all_outputs.values()):
        raise BadUsage(_REFERENCE_BROKEN, _MEND_REFERENCE)
    outputs = {name: numbers.rows(part) for name, numbers in all_outputs.items()}
    count = max(len(numbers) for numbers in outputs.values())
    scores = None if labels is None else _scores(outputs, labels[part])
    if scores is not None and np.isnan(scores[0].astype(np.float64)).any():
        raise BadUsage(_REFERENCE_BROKEN, _MEND_REFERENCE)
    broken = {name: numbers.broken_samples for name, numbers in outputs.items() if numbers.broken}
    if broken:
        name, many = max(broken.items(), key=lambda pair: pair[1])
        text = f"Output '{name}' of {many:,} of {count:,} samples {_ODD}, which never passes."
        return Verdict(status=Status.UNPROVEN, text=text, samples=count)
    noise = {name: [_sqnr(numbers, keep) for keep in numbers.parts] for name, numbers in outputs.items()}
    sqnr, sqnr_of = min(((each, name) for name, found in noise.items() for each in found), key=lambda p: p[0].estimate)
    cosines = {name: [_mean_cosine(numbers, keep) for keep in numbers.parts] for name, numbers in outputs.items()}
    cosine, cosine_of = min(
        ((each, name) for name, found in cosines.items() for each in found), key=lambda pair: pair[0].estimate
    )
    drop, findings = None, []
    if labels is not None and scores is not None:
        lost, gained = discordant(*scores, labels[part])
        drop = stats.paired_drop(lost, gained, len(labels[part]), LEVEL)
        if requirement.max_drop is not None:
            limit, asked = requirement.max_drop, requirement.asked
            findings.append(_judge_drop(limit, drop, lost, gained, len(labels[part]), asked=asked))
    if requirement.min_sqnr_db is not None:
        title = _titled("SQNR", sqnr_of, outputs)
        findings.append(_judge_floor(title, ".1f", " dB", sqnr, requirement.min_sqnr_db, count))
    if requirement.min_cosine is not None:
        title = _titled("mean cosine", cosine_of, outputs)
        findings.append(_judge_floor(title, ".5f", "", cosine, requirement.min_cosine, count))
    findings += _judge_channels(requirement, outputs)
    status = _worst([finding.status for finding in findings])
    text = f"On {count:,} sample{'s' if count > 1 else ''} " + "; ".join(finding.text for finding in findings) + "."
    needed = [finding.samples_needed for finding in findings if finding.status is Status.UNDECIDED]
    known = [number for number in needed if number is not None]
    return Verdict(
        status=status, text=text, samples=count, drop=drop, sqnr_db=sqnr, cosine=cosine,
        samples_needed=max(known) if status is Status.UNDECIDED and len(known) == len(needed) else None,
    )  # fmt: skip


def scores_of(calls: Calls, labels: Array, axes: Axes | None = None) -> Array:
    """The class scores ``(N, K)`` among the outputs that belong to ``labels``; BadUsage where there are none."""
    return _scores(_numbers(calls, calls, axes), labels)[0]


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
    before, after = classes.right(reference, labels), classes.right(given, labels)
    return int((before & ~after).sum()), int((after & ~before).sum())


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


def _judge_channels(requirement: Requirement, outputs: Mapping[str, Numbers]) -> list[_Finding]:
    """What fails because a channel does that the whole output hides."""
    found = []
    for name, numbers in outputs.items():
        channels = numbers.channels(rounding=False)
        if requirement.min_sqnr_db is not None:
            lost = lost_channels(name, channels, requirement.min_sqnr_db)
            found += [_Finding(Status.UNPROVEN, text, None) for text in lost]
        if requirement.min_cosine is not None and not found:
            limit = requirement.min_cosine
            unlike = [channel for channel in channels if channel.unlike(limit)]
            worst = min(unlike, key=lambda channel: (not channel.constant, channel.correlation), default=None)
            if worst is not None:
                what = "became constant" if worst.constant else f"has a correlation of {worst.correlation:.5f}"
                place = ", ".join(filter(None, (f"output '{name}'", str(worst))))
                found.append(_Finding(Status.UNPROVEN, f"{place} {what}", None))
    return found


def _titled(what: str, name: str, outputs: Mapping[str, Numbers]) -> str:
    return what if len(outputs) == 1 else f"{what} of output '{name}'"


def _numbers(reference: Calls, given: Calls, axes: Axes | None) -> dict[str, Numbers]:
    """The outputs that are numbers, and have the same shapes in both; BadUsage where there are none."""
    found: dict[str, Numbers] = {}
    empty = ""
    if not reference or len(reference) != len(given):
        raise _not_alike(f"{len(reference):,} calls", f"{len(given):,}")
    for name in reference[0]:
        axis = 0 if axes is None else axes.get(name)
        try:
            pairs = unfolded(name, [call[name] for call in reference], [call[name] for call in given])
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
    if not found:
        raise BadUsage(
            "No output of the model is a number that could be judged.", "Leave the requirement out."
        )  # fmt: skip
    return found


def _not_alike(reference: str, given: str) -> BadUsage:
    return BadUsage(
        f"The reference gives {reference} and the model {given}: they cannot be compared.",
        "Run both models on the same samples, at least one.",
    )


def _scores(outputs: Mapping[str, Numbers], labels: Array) -> tuple[Array, Array]:
    """(The reference's class scores, the result's): of the first output that has a row of them for each label."""
    for numbers in outputs.values():
        if numbers.batch == 0 and all(array.ndim == 2 and array.shape[1] > 1 for array in numbers.wanted):
            wanted, got = (np.concatenate(arrays) for arrays in (numbers.wanted, numbers.got))
            if labels.shape != (len(wanted),):
                break
            if not (labels.min() >= 0 and labels.max() < wanted.shape[1]):
                raise BadUsage(
                    f"The labels go from {labels.min()} to {labels.max()}, the model scores {wanted.shape[1]} classes.",
                    "Save them as class numbers that count from 0.",
                )
            return wanted, got
    numbers = next(iter(outputs.values()))
    raise BadUsage(
        f"Accuracy wants class scores (N, K) for {labels.size:,} labels, "
        f"the model gave {[len(numbers), *numbers.wanted[0].shape[1:]]}.",
        "Leave the labels out for a model that does not classify, and use --min-sqnr or --min-cosine.",
    )


def _round_up(number: float) -> int:
    """The next whole number, forgiving what rounding added to one."""
    return max(1, math.ceil(number * (1 - 1e-12)))

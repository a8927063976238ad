"""Does a model give what its reference gives? Every output by its kind, and inside it every channel.

``expected`` and ``got`` are lists of calls, each a mapping from an output's name to its value: an array of any type and
rank, a list (a sequence), a dict or a list of dicts (a map).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from toolchain.accuracy import agreement
from toolchain.accuracy.agreement import Agreement
from toolchain.accuracy.channels import Channel
from toolchain.accuracy.number_outputs import Numbers
from toolchain.accuracy.output_kinds import UNKNOWN, Kind, Kinds
from toolchain.accuracy.output_values import Array, Calls, NotAlike, lifted, unfolded


@dataclass(frozen=True)
class Rounding:
    """What a precision may round: the root mean square of the differences over a scale, and the largest difference.

    The unit roundoff is 6e-8 in fp32 and 5e-4 in fp16 and in TF32, which GPUs use for fp32 products, and 4e-3 in bf16;
    sums of some thousand terms in another order lose about three digits of the first, and a chain of some dozen rounded
    layers about one of the others. ``rms`` is over a channel's scale and over the whole's; ``largest``, of one value,
    is over the output's largest magnitude: in half precision a tail of some ten deviations is no fault (segmentation
    and detector nets of 44 to 55 dB), and a lost channel or sample is far above ``rms``.
    """

    rms: float
    largest: float
    of_whole: float = 1 / 1000
    """Of the whole output's magnitude, what no channel's scale is under: a channel of small numbers may be a sum of
    large ones. In fp32 it allows differences of 2e-6 of it, some ten roundoffs, and a lost channel is far above."""

    @property
    def limit_db(self) -> float:
        """``rms`` as the least signal to noise ratio."""
        return -20 * math.log10(self.rms)


ROUNDINGS = {
    "fp32": Rounding(1e-4, 1e-4, of_whole=1 / 50),
    "tf32": Rounding(1e-2, 1e-1),
    "fp16": Rounding(1e-2, 1e-1),
    "bf16": Rounding(8e-2, 5e-1),
}
MIN_SQNR_DB = 10.0
"""For int8 and int4, whose error is noise: a tenth of the signal's power. One layer of 4-bit weights in blocks of 32
has about 21 dB, so some ten may follow one another. Accuracy decides beyond that."""
_NAMED = 3
_WHOLE_NUMBERS_FROM = 32
"""The range from which whole numbers that were computed are quantities, and not a class."""


class FaultKind(StrEnum):
    """``BUILD``: other outputs, shapes or types; ``FINITE``: NaN or infinity; ``NOISE``: numbers too far off;
    ``ANSWERS``: what is no number does not agree."""

    BUILD = "build"
    FINITE = "finite"
    NOISE = "noise"
    ANSWERS = "answers"


@dataclass(frozen=True)
class Fault:
    """What does not pass, in a few words that begin with the output, and with the channel where it is one."""

    kind: FaultKind
    text: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The worst of a model's outputs. Figures are None where no output has them; ``passed`` is the verdict on all.

    ``sqnr_db`` is of an output as a whole, ``channel_sqnr_db`` of the channel ``channel`` by its own scale.
    ``same_answer`` is the share of samples whose largest class score is the same class's, ``agreement`` that of answers
    that are no numbers.
    """

    precision: str
    samples: int
    max_difference: float | None = None
    sqnr_db: float | None = None
    channel_sqnr_db: float | None = None
    channel: str = ""
    same_answer: float | None = None
    agreement: float | None = None
    limit: str
    passed: bool
    faults: tuple[Fault, ...] = ()

    def __str__(self) -> str:
        parts = []
        if self.max_difference is not None:
            parts.append(f"largest difference {self.max_difference:.2g}")
        if self.sqnr_db is not None:
            parts.append(f"SQNR {self.sqnr_db:.1f} dB")
        if self.channel_sqnr_db is not None and math.isfinite(self.channel_sqnr_db):
            parts.append(f"its least channel {self.channel_sqnr_db:.1f} dB ({self.channel})")
        if self.agreement is not None:
            parts.append(f"equal answers {agreement.percent(self.agreement)}")
        if self.same_answer is not None:
            parts.append(f"same class on {agreement.percent(self.same_answer)} of {self.samples}")
        return f"{', '.join(parts) or 'no outputs'}; {self.limit}"

    @property
    def why(self) -> str:
        """What does not pass, the first few."""
        more = f", and {len(self.faults) - _NAMED} more" if len(self.faults) > _NAMED else ""
        return "; ".join(fault.text for fault in self.faults[:_NAMED]) + more


@dataclass(frozen=True)
class _Part:
    """One output, or one part of a sequence."""

    name: str
    difference: float | None = None
    sqnr_db: float | None = None
    least: Channel | None = None
    answers: Agreement | None = None
    same_answer: float | None = None
    faults: tuple[Fault, ...] = ()


def compare(
    expected: Calls,
    got: Calls,
    *,
    precision: str,
    samples: int | None = None,
    kinds: Kinds | None = None,
    axes: Mapping[str, int | None] | None = None,
    classes: bool = False,
    real: bool = True,
) -> Comparison:
    """Judge the calls ``got`` beside the same calls ``expected`` by ``precision``'s rule.

    ``kinds`` and ``axes``, the batch axis of each output, come from the graph; without them an output's first axis
    counts samples. ``classes`` says that there are labels, so that ``(N, K)`` numbers are class scores.
    ``real`` is false for outputs on made-up values.
    """
    kinds, axes = kinds or {}, axes if axes is not None else {}
    names = list(expected[0]) if expected else []
    parts: list[_Part] = []
    if len(expected) != len(got) or (got and sorted(got[0]) != sorted(names)):
        given = ", ".join(sorted(got[0])) if got else "nothing"
        text = f"its outputs are {given} in {len(got):,} calls"
        parts.append(_Part("", faults=(Fault(FaultKind.BUILD, text),)))
    else:
        for name in names:
            kind, axis = kinds.get(name, UNKNOWN), axes.get(name, None if axes else 0)
            try:
                pairs = unfolded(name, expected, got)
            except NotAlike as other:
                parts.append(_Part(name, faults=(Fault(FaultKind.BUILD, f"output '{name}' {other}"),)))
                continue
            parts += [
                _part(each, *pair, kind, axis, precision, classes=classes, real=real) for each, pair in pairs.items()
            ]
    return _summary(parts, precision, len(expected) if samples is None else samples)


def worst(found: Sequence[Comparison]) -> Comparison:
    """The one that is furthest from what was wanted: one that fails before all that pass."""
    return min(found, key=lambda each: (each.passed, math.inf if each.sqnr_db is None else each.sqnr_db))


def _part(
    name: str,
    wanted: Sequence[Array],
    got: Sequence[Array],
    kind: Kind,
    batch: int | None,
    precision: str,
    *,
    classes: bool,
    real: bool,
) -> _Part:
    shapes = [(w.shape, g.shape) for w, g in zip(wanted, got, strict=True)]
    if other := next((pair for pair in shapes if pair[0] != pair[1]), None):
        axis = agreement.differing_axis(shapes)
        varies = kind.selected or (axis is not None and len({before[axis] for before, _ in shapes}) > 1)
        if axis is None or not varies:
            before, after = (list(shape) for shape in other)
            text = f"output '{name}' is {after}, and {before} in the reference"
            return _Part(name, faults=(Fault(FaultKind.BUILD, text),))
        return _agreed(name, agreement.rows(wanted, got, axis=axis, precision=precision))
    if not kind.exact and (wanted[0].dtype.kind == "f" or _counted(wanted, kind)):
        part = _numbers(name, wanted, got, batch, precision, real=real)
        if (classes or kind.class_scores) and batch == 0 and all(w.ndim == 2 and w.shape[1] > 1 for w in wanted):
            part = replace(part, same_answer=_same_answer(wanted, got))
    elif kind.exact:
        part = _agreed(name, agreement.exact(wanted, got))
    else:
        part = _agreed(name, agreement.answers(wanted, got, precision=precision))
    return _as_sets(name, wanted, got, batch, precision) or part if part.faults and kind.selected else part


def _as_sets(
    name: str, wanted: Sequence[Array], got: Sequence[Array], batch: int | None, precision: str
) -> _Part | None:
    """Rows that the data picked, along the longest axis, or all of them by their order; None for an output without one.

    Of each sample; or of the whole call, where the axis taken for the samples' is that of the rows.
    """
    found: list[tuple[Sequence[Array], Sequence[Array]]] = []
    if batch is not None and wanted[0].ndim > 1:
        one, other = ([row for array in arrays for row in lifted(array, batch)] for arrays in (wanted, got))
        found.append((one, other))
    if batch is None or wanted[0].ndim == 1 or wanted[0].shape[batch] == max(wanted[0].shape):
        found.append((wanted, got))
    if ranked := next((pair for pair in found if agreement.are_rankings(pair[0])), None):
        return _agreed(name, agreement.order(*ranked, precision=precision))
    compared = [
        agreement.rows(one, other, axis=int(np.argmax(one[0].shape)), precision=precision)
        for one, other in found
        if one and one[0].ndim
    ]
    best = max(compared, key=lambda each: (each.passed, each.share), default=None)
    return None if best is None else _agreed(name, best)


def _counted(wanted: Sequence[Array], kind: Kind) -> bool:
    """Whether whole numbers are quantities: the graph computes them, and they go further than class numbers do."""
    if not kind.counted or wanted[0].dtype.kind not in "iu":
        return False
    ends = [(int(array.min()), int(array.max())) for array in wanted if array.size]
    return bool(ends) and max(high for _, high in ends) - min(low for low, _ in ends) >= _WHOLE_NUMBERS_FROM


def _agreed(name: str, found: Agreement) -> _Part:
    faults = () if found.passed else (Fault(FaultKind.ANSWERS, f"output '{name}': {found}"),)
    return _Part(name, answers=found, faults=faults)


def _numbers(
    name: str, wanted: Sequence[Array], got: Sequence[Array], batch: int | None, precision: str, *, real: bool
) -> _Part:
    rule = ROUNDINGS.get(precision)
    found = Numbers.of(wanted, got, batch=batch, whole_steps=wanted[0].dtype.kind in "iu")
    if found.broken:
        fault = Fault(FaultKind.FINITE, f"output '{name}' {found.broken}")
        return _Part(name, difference=math.inf, sqnr_db=-math.inf, faults=(fault,))
    channels = found.channels(rounding=0.0 if rule is None else rule.of_whole, real=real)
    limit_db = MIN_SQNR_DB if rule is None else rule.limit_db
    difference, share = found.largest
    faults = lost_channels(name, channels, limit_db)
    if not faults and found.sqnr_db < limit_db:
        faults = [f"output '{name}' has an SQNR of {found.sqnr_db:.1f} dB"]
    if not faults and rule is not None and share > rule.largest:
        faults = [f"output '{name}' differs by {difference:.2g}, {share:.2g} of its largest magnitude"]
    return _Part(
        name, difference=difference, sqnr_db=found.sqnr_db, least=least(channels),
        faults=tuple(Fault(FaultKind.NOISE, fault) for fault in faults),
    )  # fmt: skip


def lost_channels(name: str, channels: Sequence[Channel], limit_db: float) -> list[str]:
    """A sentence about the channels of an output that are under the limit or became constant, if there are any."""
    low = [channel for channel in channels if channel.below(limit_db)]
    worst = least(low)
    if worst is None:
        return []
    place = ", ".join(filter(None, (f"output '{name}'", str(worst))))
    what = "became constant" if worst.constant else f"has {worst.sqnr_db:.1f} dB by its own range"
    more = f" ({len(low) - 1:,} other channels are lost too)" if len(low) > 1 else ""
    return [f"{place} {what}{more}"]


def least(channels: Sequence[Channel]) -> Channel | None:
    """The channel that lost most: those that became constant first."""
    return min(channels, key=lambda channel: (not channel.constant, channel.sqnr_db), default=None)


def _same_answer(wanted: Sequence[Array], got: Sequence[Array]) -> float:
    same = [(w.argmax(1) == g.argmax(1)) for w, g in zip(wanted, got, strict=True) if len(w)]
    return float(np.mean(np.concatenate(same))) if same else 1.0


def _summary(parts: Sequence[_Part], precision: str, samples: int) -> Comparison:
    numbers = [(part, part.sqnr_db) for part in parts if part.sqnr_db is not None]
    answers = [part.answers for part in parts if part.answers is not None]
    scores = [part.same_answer for part in parts if part.same_answer is not None]
    worst = min(numbers, key=lambda pair: (not pair[0].faults, pair[1]), default=(None, None))
    leasts = [(part.name, part.least) for part in parts if part.least is not None]
    name, low = min(leasts, key=lambda pair: (not pair[1].constant, pair[1].sqnr_db), default=("", None))
    wanted = []
    if numbers:
        rule = ROUNDINGS.get(precision)
        limit_db = MIN_SQNR_DB if rule is None else rule.limit_db
        wanted.append(f"at least {limit_db:.0f} dB, each channel too{_allowed(low, limit_db)}")
    if answers:
        wanted.append(_wanted_of(answers))
    faults = tuple(fault for part in parts for fault in part.faults)
    return Comparison(
        precision=precision,
        samples=samples,
        max_difference=None if worst[0] is None else worst[0].difference,
        sqnr_db=worst[1],
        channel_sqnr_db=None if low is None else low.sqnr_db,
        channel="" if low is None else ", ".join(filter(None, (f"output '{name}'", str(low)))),
        same_answer=min(scores, default=None),
        agreement=min((each.share for each in answers), default=None),
        limit=" and ".join(wanted) or "there is nothing to compare",
        passed=not faults,
        faults=faults,
    )


def _allowed(low: Channel | None, limit_db: float) -> str:
    """What the least channel may have, where it passes below the limit; empty for others."""
    if low is None or low.sqnr_db >= limit_db or low.below(limit_db):
        return ""
    return f" ({low.least_db(limit_db):.1f} dB for one of {low.values:,} values)"


def _wanted_of(answers: Sequence[Agreement]) -> str:
    """What is asked of the answers that agree least, and why they pass where they pass with less."""
    worst = min(answers, key=lambda each: (each.passed, each.share - each.least))
    text = f"at least {agreement.percent(worst.least)} equal"
    if not worst.passed or worst.share >= worst.least:
        return text
    what = "rows" if worst.rows else "values"
    return f"{text}, which {worst.same:,} of {worst.total:,} {what} neither prove nor disprove: they are too few"

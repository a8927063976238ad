"""What a version that does not pass is refused with: what is wrong, which node does most of it, what helps."""

from collections.abc import Callable

from exporters.errors import ExporterError
from toolchain.accuracy import gate
from toolchain.accuracy.comparison import Comparison, FaultKind
from toolchain.accuracy.gate import Verdict, advice_on_samples
from toolchain.accuracy.status import Status
from toolchain.conversion.goal import Goal
from toolchain.errors import CheckFailed, NnxError, Undecided

_HALVES = ("fp16", "bf16")
_UNCALIBRATED = ("int4", "int8-dynamic")


def require(
    verdict: Verdict,
    compared: Comparison,
    goal: Goal,
    precision: str,
    rank: Callable[[], list[str]],
    *,
    real: bool,
) -> None:
    """Raise CheckFailed or Undecided for a version that does not pass the gate or, whatever that says, is broken.

    ``real`` is whether it was judged on real inputs.
    """
    if verdict.status is Status.UNDECIDED:
        raise Undecided(verdict.text, advice_on_samples(verdict))
    faults = {fault.kind for fault in compared.faults}
    if FaultKind.BUILD in faults:
        raise CheckFailed(
            f"The {precision} model has not the outputs of the original: {compared.why}.",
            "No file was written. Where no output's length depends on the data this is a fault of nnx: report it then.",
        )
    if goal.requirement is not None:
        gate.require(verdict)
        asked = goal.requirement.min_sqnr_db is not None or goal.requirement.min_cosine is not None
        if faults & ({FaultKind.FINITE, FaultKind.ANSWERS} if asked else {FaultKind.FINITE}):
            raise CheckFailed(
                f"The requirement is met, but not by every output: {compared.why}.", _advice(precision, rank, faults)
            )
    elif not compared.passed:
        told = real or FaultKind.FINITE in faults
        raise CheckFailed(
            f"{_begun(told)} the {precision} model does not agree with the original: {compared.why} ({compared}).",
            _advice(precision, rank, faults) if told else f"No file was written. {_other_ways(precision, real=real)}",
        )
    elif verdict.status is Status.UNPROVEN:
        raise CheckFailed(verdict.text, _advice(precision, rank, faults))


def nothing_left(whole: Verdict, goal: Goal, precision: str, worst: str, *, real: bool) -> CheckFailed:
    """The error where a search put every node back; ``whole`` is the verdict on the model with all converted.

    ``worst`` is the node that does most of it, and ``real`` says whether the samples are the user's.
    """
    if goal.requirement is not None:
        return CheckFailed(
            "Only the original meets the requirement: every node that can be converted would have to stay in float.",
            "Loosen the requirement, or ship the original.",
        )
    return CheckFailed(
        f"{_begun(real)} the {precision} model agrees with the original only when every node stays in float. With all "
        f"converted: {whole.text}{f' The most damaging is {worst}.' * bool(worst)}",
        f"No file was written. {_other_ways(precision, real=real)}",
    )


def _other_ways(precision: str, *, real: bool) -> str:
    """What may still come of it: rounded weights shift a mean, which is much where little else varies."""
    judge = "" if real else "Give real samples with --eval, for those made up may vary less than yours. "
    if precision in _UNCALIBRATED:
        return f"{judge}Try --int8 --calibration, which corrects the means that rounded weights shift."
    return f"{judge}Ship the original, or another precision."


def _begun(real: bool) -> str:
    """What failed on values that nnx made up says little of the model."""
    return "Parity failed:" if real else "On made-up values"


def _advice(precision: str, rank: Callable[[], list[str]], faults: set[FaultKind]) -> str:
    option = "--keep-fp32" if precision in _HALVES else "--exclude"
    try:
        worst = next(iter(rank()), None)
    except (ExporterError, NnxError):  # a graph whose layers cannot be compared: then nobody knows
        worst = None
    if FaultKind.FINITE in faults and precision in _HALVES:
        calibrate = "Give --calibration, so that nodes whose values overflow stay in fp32"
    else:
        calibrate = "Give --min-sqnr DB with a longer --budget, so that a search finds the nodes to leave in float"
    node = f"; the most damaging is {worst}: {option} {worst}" if worst else f", or {option} NODE"
    return f"No file was written. {calibrate}{node}."

"""The verdict on a benchmarked row: its accuracy on labelled samples by the gate, its parity with the baseline."""

import math
from dataclasses import replace

from toolchain import stats
from toolchain.accuracy import gate, metrics, parity
from toolchain.accuracy.gate import DEFAULT, Requirement
from toolchain.accuracy.status import Status
from toolchain.bench.judgement import Judge, Judgement, Outputs
from toolchain.bench.record import Benchmark, Row
from toolchain.errors import BadUsage, CheckFailed, NotAvailable, Undecided
from toolchain.inputs.samples import Samples


def judge_with(samples: Samples, *, requirement: Requirement = DEFAULT) -> Judge:
    """A judge for one set of samples, by the rule of the conversions: accuracy, drop, parity, and what follows."""

    def judge(row: Row, outputs: Outputs, baseline: tuple[Row, Outputs] | None) -> Judgement:
        labels, scores = samples.labels, outputs[0]
        try:  # hours of other rows must not be lost for labels that do not fit
            found = Judgement() if labels is None else Judgement(accuracy=metrics.top1(scores, labels))
            if baseline is None and labels is not None:
                gate.judge(requirement, scores, scores, labels)  # whether anything can be judged by them
        except BadUsage as misfit:
            return Judgement(status=Status.FAILED, reason=f"{misfit.what} {misfit.do}")
        if baseline is None:
            return found
        other, expected = baseline
        found = _beside(found, row, outputs, other, expected)
        if labels is None or scores.shape != expected[0].shape:
            return found
        drop = stats.paired_drop(*gate.discordant(expected[0], scores, labels), len(labels))
        found = replace(found, drop=drop)
        try:
            verdict = gate.judge(requirement, expected[0], scores, labels)
        except BadUsage as misfit:
            failed = replace(found, status=Status.FAILED, reason=f"{misfit.what} {misfit.do}")
            return failed if found.status is Status.OK else found
        if verdict.status is Status.OK or found.status is not Status.OK:
            return found
        return replace(found, status=verdict.status, reason=f"Beside {other.candidate.label}: {verdict.text}")

    def _beside(found: Judgement, row: Row, outputs: Outputs, other: Row, expected: Outputs) -> Judgement:
        """With the parity of ``row`` and the baseline ``other``."""
        precision = _loosest(_arithmetic(row), _arithmetic(other))
        compared = parity.compare_all(expected, outputs, precision=precision)
        noise = compared.sqnr_db
        found = replace(found, parity=f"{noise:.0f} dB" if math.isfinite(noise) else ("exact" if noise > 0 else "none"))
        if compared.passed or not (samples.real or not precision.startswith("int")):
            return found
        reason = f"Its outputs differ from {other.candidate.label}'s: {compared}."
        return replace(found, status=Status.UNPROVEN, reason=reason)

    return judge


def _arithmetic(row: Row) -> str:
    """The precision in which the row really computes: fp32 on a GPU rounds products to TF32 unless told otherwise."""
    on_cpu = row.setting.provider == "cpu"
    return "tf32" if row.candidate.precision == "fp32" and not on_cpu else row.candidate.precision


def _loosest(*precisions: str) -> str:
    order = ["fp32", "tf32", "fp16", "bf16"]
    return max(precisions, key=lambda precision: order.index(precision) if precision in order else len(order))


def require_sound(measured: Benchmark) -> None:
    """Raise NotAvailable when no row could run here, CheckFailed when one failed or is unproven, or else Undecided."""
    if all(row.status is Status.UNAVAILABLE for row in measured.rows):
        raise NotAvailable("Nothing that was asked for could run here.", measured.rows[0].reason)
    wrong = [
        f"{row.name}, {row.setting.circumstances}"
        for row in measured.rows
        if row.status in (Status.FAILED, Status.UNPROVEN)
    ]
    if wrong:
        raise CheckFailed(
            f"These rows failed or are unproven: {', '.join(dict.fromkeys(wrong))}.",
            "The lines under the table say why.",
        )
    undecided = dict.fromkeys(row.name for row in measured.rows if row.status is Status.UNDECIDED)
    if undecided:
        raise Undecided(
            f"The samples are too few to tell whether these keep their accuracy: {', '.join(undecided)}.",
            "Give more samples, or allow more with --max-drop.",
        )

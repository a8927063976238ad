"""The verdict on a benchmarked row: its accuracy on labelled samples by the gate, its parity with the baseline."""

import math
from dataclasses import replace
from pathlib import Path

from exporters import onnx_file
from toolchain import stats
from toolchain.accuracy import agreement, gate, metrics, output_kinds
from toolchain.accuracy.comparison import Calls, Comparison, compare
from toolchain.accuracy.gate import DEFAULT, Requirement
from toolchain.accuracy.output_kinds import Kind
from toolchain.accuracy.status import Status
from toolchain.bench.judgement import Judge, Judgement, Outputs
from toolchain.bench.record import Benchmark, Row
from toolchain.errors import BadUsage, CheckFailed, NotAvailable, Undecided
from toolchain.inputs.samples import Samples


def judge_with(samples: Samples, *, requirement: Requirement = DEFAULT) -> Judge:
    """A judge for one set of samples, by the rule of the conversions: accuracy, drop, parity, and what follows."""

    def judge(row: Row, outputs: Outputs, baseline: tuple[Row, Outputs] | None) -> Judgement:
        labels, calls = samples.labels, as_calls(outputs)
        try:  # hours of other rows must not be lost for labels that do not fit
            scores = None if labels is None else gate.scores_of(calls, labels)
            found = Judgement()
            if labels is not None and scores is not None:
                found = Judgement(accuracy=metrics.top1(scores, labels))
                if baseline is None:
                    gate.judge(requirement, calls, calls, labels)  # whether anything can be judged by them
        except BadUsage as misfit:
            return Judgement(status=Status.FAILED, reason=f"{misfit.what} {misfit.do}")
        if baseline is None:
            return found
        other, expected = baseline
        found = _beside(found, row, outputs, other, expected)
        if labels is None or scores is None:
            return found
        try:
            drop = gate.discordant(gate.scores_of(as_calls(expected), labels), scores, labels)
            found = replace(found, drop=stats.paired_drop(*drop, len(labels)))
            verdict = gate.judge(requirement, as_calls(expected), calls, labels)
        except BadUsage as misfit:
            failed = replace(found, status=Status.FAILED, reason=f"{misfit.what} {misfit.do}")
            return failed if found.status is Status.OK else found
        if verdict.status is Status.OK or found.status is not Status.OK:
            return found
        return replace(found, status=verdict.status, reason=f"Beside {other.candidate.label}: {verdict.text}")

    def _beside(found: Judgement, row: Row, outputs: Outputs, other: Row, expected: Outputs) -> Judgement:
        """With the parity of ``row`` and the baseline ``other``."""
        precision = _loosest(_arithmetic(row), _arithmetic(other))
        compared = compare(
            as_calls(expected), as_calls(outputs), precision=precision, kinds=kinds_of(row),
            samples=len(samples), classes=samples.labels is not None,
        )  # fmt: skip
        found = replace(found, parity=_figure(compared))
        if compared.passed or not (samples.real or not precision.startswith("int")):
            return found
        reason = f"Its outputs differ from {other.candidate.label}'s: {compared.why} ({compared})."
        return replace(found, status=Status.UNPROVEN, reason=reason)

    return judge


def as_calls(outputs: Outputs) -> Calls:
    """By their place: a model of PyTorch has other names for them than a file."""
    return [{str(place): value for place, value in enumerate(outputs)}]


def kinds_of(row: Row) -> dict[str, Kind]:
    """What the graph says of each output, by its place; nothing of a model that is no file."""
    if row.candidate.runtime != "ort" or not Path(row.candidate.model).is_file():
        return {}
    return {
        str(place): kind
        for place, kind in enumerate(output_kinds.of(onnx_file.read(Path(row.candidate.model))).values())
    }


def _figure(compared: Comparison) -> str:
    """Of the worst output, or the share of answers that agree where none is a number."""
    if (noise := compared.sqnr_db) is None:
        return "none" if compared.agreement is None else agreement.percent(compared.agreement)
    return f"{noise:.0f} dB" if math.isfinite(noise) else ("exact" if noise > 0 else "none")


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

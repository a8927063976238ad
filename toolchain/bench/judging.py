"""The verdict on a benchmarked row: its accuracy on labelled samples by the gate, its parity with the baseline."""

import math
from dataclasses import replace

from toolchain.accuracy import agreement, gate, targets
from toolchain.accuracy.comparison import Comparison, compare
from toolchain.accuracy.gate import Requirement
from toolchain.accuracy.metrics import intervals
from toolchain.accuracy.metrics.built_in import TOP1
from toolchain.accuracy.metrics.collecting import rows_of
from toolchain.accuracy.metrics.metric import Metric
from toolchain.accuracy.one_by_one import OneByOne
from toolchain.accuracy.status import Status
from toolchain.bench.judgement import Judge, Judgement, Outputs
from toolchain.bench.output_graph import OutputGraph
from toolchain.bench.record import Benchmark, Row
from toolchain.errors import BadUsage, CheckFailed, NotAvailable, Undecided
from toolchain.inputs.samples import Samples

_LEVEL = 0.95
"""Of what a row shows, where the gate's bounds are one-sided."""


def judge_with(samples: Samples, *, requirement: Requirement | None = None, metric: Metric = TOP1) -> Judge:
    """A judge for one set of samples, by the rule of the conversions: the metric, what of it is lost, parity.

    Without a ``requirement`` that of :func:`gate.default_for`.
    """
    required = requirement or gate.default_for(metric)

    def judge(row: Row, outputs: Outputs, baseline: tuple[Row, Outputs] | None) -> Judgement:
        labels = samples.labels
        other, expected = baseline or (row, outputs)
        calls = named_alike(outputs, expected)
        graph = OutputGraph.of(other, row).named(expected)
        axes = graph.axes_of(expected, len(samples))
        try:  # hours of other rows must not be lost for labels that do not fit
            rows = None if labels is None else rows_of(metric, calls, labels, axes)
            found = Judgement()
            if labels is not None and rows is not None:
                told = None if metric.name == TOP1.name else metric.measure
                found = Judgement(accuracy=intervals.score(metric, rows), metric=told)
                if baseline is None:  # whether they can be judged by at all
                    gate.judge(required, calls, calls, labels, metric=metric, axes=axes)
        except BadUsage as misfit:
            return Judgement(status=Status.FAILED, reason=f"{misfit.what} {misfit.do}")
        if baseline is None:
            return found
        precision = _loosest(_arithmetic(row), _arithmetic(other))
        compared = compare(
            expected, calls, precision=precision, kinds=graph.kinds, axes=axes, samples=len(samples),
            classes=targets.are_classes(labels),
        )  # fmt: skip
        found = replace(found, parity=_figure(compared))
        if not compared.passed and (samples.real or not precision.startswith("int")):
            reason = f"Its outputs differ from {other.candidate.label}'s: {compared.why} ({compared})."
            found = replace(found, status=Status.UNPROVEN, reason=reason)
        if labels is None or rows is None:
            return found
        try:
            before = rows_of(metric, expected, labels, axes)
            found = replace(found, drop=intervals.drop(metric, before, rows, _LEVEL))
            verdict = gate.judge(required, expected, calls, labels, metric=metric, axes=axes)
        except BadUsage as misfit:
            failed = replace(found, status=Status.FAILED, reason=f"{misfit.what} {misfit.do}")
            return failed if found.status is Status.OK else found
        if verdict.status is Status.OK or found.status is not Status.OK:
            return found
        return replace(found, status=verdict.status, reason=f"Beside {other.candidate.label}: {verdict.text}")

    return judge


def named_alike(outputs: Outputs, expected: Outputs) -> Outputs:
    """``outputs`` under the names of ``expected``, place by place: a model of PyTorch has others than a file."""
    names, own = (list(calls[0]) if calls else [] for calls in (expected, outputs))
    if sorted(names) == sorted(own) or len(names) != len(own):
        return outputs
    return OneByOne(len(outputs), lambda call: dict(zip(names, outputs[call].values(), strict=True)))


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

"""The verdict on a benchmarked row: its accuracy on labelled samples, its parity with the baseline."""

import math
from typing import Any

from toolchain.accuracy import metrics, parity
from toolchain.bench.benchmark import Judge, Outputs
from toolchain.bench.record import Benchmark, Row
from toolchain.errors import BadUsage, CheckFailed, NotAvailable, Undecided
from toolchain.inputs.samples import Samples

MAX_DROP = 0.02
"""The accuracy, as a share, that a row may lose against its baseline before it counts as unproven."""


def judge_with(samples: Samples, *, max_drop: float = MAX_DROP) -> Judge:
    """A judge for one set of samples: accuracy, drop and parity of a row, and its status if it did not pass."""

    def judge(row: Row, outputs: Outputs, baseline: tuple[Row, Outputs] | None) -> dict[str, Any]:
        verdict: dict[str, Any] = {}
        scores = outputs[0]
        if samples.labels is not None:
            try:
                verdict["accuracy"] = metrics.top1(scores, samples.labels)
            except BadUsage as misfit:  # hours of other rows must not be lost for it
                return {"status": "failed", "reason": f"{misfit.what} {misfit.do}"}
        if baseline is None:
            return verdict
        other, expected = baseline
        precision = _loosest(_arithmetic(row), _arithmetic(other))
        compared = parity.compare_all(expected, outputs, precision=precision)
        noise = compared.sqnr_db
        verdict["parity"] = f"{noise:.0f} dB" if math.isfinite(noise) else ("exact" if noise > 0 else "none")
        if not compared.passed and (samples.real or not precision.startswith("int")):
            verdict |= {
                "status": "unproven",
                "reason": f"Its outputs differ from {other.candidate.label}'s: {compared}.",
            }
        if samples.labels is not None:
            verdict["drop"] = lost = metrics.drop(expected[0], scores, samples.labels)
            if lost.estimate > max_drop and verdict.get("status") is None:
                verdict |= {
                    "status": "unproven" if lost.low > max_drop else "undecided",
                    "reason": f"It loses {lost.estimate * 100:.2f} points of {other.candidate.label}'s accuracy "
                    f"(95 %: {lost.low * 100:.2f} to {lost.high * 100:.2f}), and {max_drop * 100:g} are allowed.",
                }
        return verdict

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
    if all(row.status == "unavailable" for row in measured.rows):
        raise NotAvailable("Nothing that was asked for could run here.", measured.rows[0].reason)
    wrong = [
        f"{row.name}, {row.setting.circumstances}" for row in measured.rows if row.status in ("failed", "unproven")
    ]
    if wrong:
        raise CheckFailed(
            f"These rows failed or are unproven: {', '.join(dict.fromkeys(wrong))}.",
            "The lines under the table say why.",
        )
    undecided = dict.fromkeys(row.name for row in measured.rows if row.status == "undecided")
    if undecided:
        raise Undecided(
            f"The samples are too few to tell whether these keep their accuracy: {', '.join(undecided)}.",
            "Give more samples, or allow more with --max-drop.",
        )

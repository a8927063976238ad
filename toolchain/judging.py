"""The verdict on a benchmarked row: its accuracy on labelled samples, its parity with the baseline."""

import math
from typing import Any

from toolchain import accuracy, parity
from toolchain.bench_record import Benchmark, Row
from toolchain.benchmark import Judge, Outputs
from toolchain.errors import CheckFailed, NotAvailable
from toolchain.samples import Samples

MAX_DROP = 0.02
"""The accuracy, as a share, that a row may lose against its baseline before it counts as unproven."""


def judge_with(samples: Samples, *, max_drop: float = MAX_DROP) -> Judge:
    """A judge for one set of samples: accuracy, drop and parity of a row, and its status if it did not pass."""

    def judge(row: Row, outputs: Outputs, baseline: tuple[Row, Outputs] | None) -> dict[str, Any]:
        verdict: dict[str, Any] = {}
        if samples.labels is not None:
            verdict["accuracy"] = accuracy.top1(outputs, samples.labels)
        if baseline is None:
            return verdict
        other, expected = baseline
        precision = _loosest(_arithmetic(row), _arithmetic(other))
        compared = parity.compare(expected, outputs, precision=precision)
        noise = compared.sqnr_db
        verdict["parity"] = f"{noise:.0f} dB" if math.isfinite(noise) else ("exact" if noise > 0 else "none")
        if not compared.passed and (samples.real or not precision.startswith("int")):
            verdict |= {
                "status": "unproven",
                "reason": f"Its outputs differ from {other.candidate.label}'s: {compared}.",
            }
        if samples.labels is not None:
            verdict["drop"] = lost = accuracy.drop(expected, outputs, samples.labels)
            if lost.estimate > max_drop:
                verdict |= {
                    "status": "unproven",
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
    """Raise NotAvailable when no row could run here, CheckFailed when one failed or is unproven."""
    if all(row.status == "unavailable" for row in measured.rows):
        raise NotAvailable("Nothing that was asked for could run here.", measured.rows[0].reason)
    wrong = [row.name for row in measured.rows if row.status in ("failed", "unproven")]
    if wrong:
        raise CheckFailed(
            f"These rows failed or are unproven: {', '.join(dict.fromkeys(wrong))}.",
            "The lines under the table say why.",
        )

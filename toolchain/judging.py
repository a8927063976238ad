"""The verdict on a benchmarked row: its accuracy on labelled samples, its parity with the baseline."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from toolchain import accuracy, parity
from toolchain.bench_record import Benchmark, Candidate
from toolchain.benchmark import Judge
from toolchain.errors import CheckFailed, NotAvailable
from toolchain.samples import Samples


def judge_with(samples: Samples) -> Judge:
    """A judge for one set of samples: a row's ``accuracy`` and ``parity``, and its ``status`` if it did not pass."""

    def judge(
        outputs: npt.NDArray[np.generic], baseline: npt.NDArray[np.generic] | None, candidate: Candidate
    ) -> dict[str, Any]:
        verdict: dict[str, Any] = {}
        if samples.labels is not None:
            verdict["accuracy"] = accuracy.top1(outputs, samples.labels)
        if baseline is not None and baseline is not outputs:
            compared = parity.compare(baseline, outputs, precision=candidate.precision)
            noise = compared.sqnr_db
            verdict["parity"] = f"{noise:.0f} dB" if math.isfinite(noise) else ("exact" if noise > 0 else "none")
            if not compared.passed and (samples.real or not candidate.precision.startswith("int8")):
                verdict |= {
                    "status": "unproven",
                    "reason": f"Its outputs differ from the baseline's: {compared}.",
                }
        return verdict

    return judge


def require_sound(measured: Benchmark) -> None:
    """Raise NotAvailable when no row could run here, CheckFailed when one failed or is unproven."""
    if all(row.status == "unavailable" for row in measured.rows):
        raise NotAvailable("Nothing that was asked for could run here.", measured.rows[0].reason)
    wrong = [row.candidate.label for row in measured.rows if row.status in ("failed", "unproven")]
    if wrong:
        raise CheckFailed(
            f"These rows failed or are unproven: {', '.join(dict.fromkeys(wrong))}.",
            "The lines under the table say why.",
        )

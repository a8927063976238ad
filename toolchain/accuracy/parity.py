"""Does a model file give what its reference gives? The tolerance follows from the precision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtimes.base import Arrays, run
from runtimes.ort import OrtRuntime
from toolchain.errors import CheckFailed
from toolchain.stats import sqnr_db

SAMPLES = 256
"""How many real samples a proof runs on."""

# Largest difference allowed, as a share of the reference's largest magnitude. The unit roundoff is 6e-8 in fp32 and
# 5e-4 in fp16 and in TF32, which GPUs use for fp32 products, and 4e-3 in bf16; sums of some thousand terms in another
# order lose about three digits of the first, and a chain of some dozen rounded layers about one of the others.
_TOLERANCES = {"fp32": 1e-4, "tf32": 1e-2, "fp16": 1e-2, "bf16": 8e-2}
_PART = 64
"""Samples that run at once: ten thousand would want gigabytes of activations."""
_MIN_SQNR_DB = 10.0
"""For int8 and int4, whose error is noise: a tenth of the signal's power. One layer of 4-bit weights in blocks of 32
has about 21 dB, so some ten may follow one another. Accuracy decides beyond that."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """One comparison. ``agreement`` is the share of samples with the same largest output; ``passed`` is the verdict."""

    precision: str
    samples: int
    max_difference: float
    sqnr_db: float
    agreement: float
    limit: str
    passed: bool

    def __str__(self) -> str:
        return (
            f"largest difference {self.max_difference:.2g}, SQNR {self.sqnr_db:.1f} dB, "
            f"same answer on {self.agreement:.1%} of {self.samples}; {self.limit}"
        )


def compare(reference: npt.NDArray[np.generic], given: npt.NDArray[np.generic], *, precision: str) -> Parity:
    """Judge ``given`` ``(N, ...)`` against ``reference`` by ``precision``'s rule; NaN and infinity never pass."""
    same_shape = reference.shape == given.shape
    finite = same_shape and bool(np.isfinite(given).all() and np.isfinite(reference).all())
    if finite:
        wanted, got = reference.astype(np.float64), given.astype(np.float64)
        difference = float(np.abs(wanted - got).max(initial=0.0))
        noise = sqnr_db(wanted, got)
        flat = (wanted.reshape(len(wanted), -1), got.reshape(len(got), -1))
        agreement = float(np.mean(flat[0].argmax(1) == flat[1].argmax(1)))
    else:
        difference, noise, agreement = float("inf"), float("-inf"), 0.0
    if precision in _TOLERANCES:
        allowed = _TOLERANCES[precision] * float(np.abs(reference).max(initial=0.0))
        limit, passed = f"allowed {allowed:.2g}", finite and difference <= allowed
    else:
        limit, passed = f"at least {_MIN_SQNR_DB:.0f} dB", finite and noise >= _MIN_SQNR_DB
    return Parity(
        precision=precision, samples=len(reference), max_difference=difference, sqnr_db=noise, agreement=agreement,
        limit=limit, passed=passed,
    )  # fmt: skip


def compare_all(
    reference: Sequence[npt.NDArray[np.generic]], given: Sequence[npt.NDArray[np.generic]], *, precision: str
) -> Parity:
    """The worst of a model's outputs, in its order; a model with another number of them never passes."""
    if len(reference) != len(given):
        nothing = np.empty(0)
        return compare(reference[0], nothing, precision=precision)
    return _worst([compare(want, got, precision=precision) for want, got in zip(reference, given, strict=True)])


def check_conversion(expected: Arrays, got: Arrays, *, precision: str, required: bool = True) -> Parity:
    """Compare the outputs of a model in ``precision`` with ``expected``, those of the fp32 model, by their names.

    Raises CheckFailed when they do not pass and that is ``required``: what passed the accuracy gate need not.
    """
    worst = _worst([compare(expected[name], got[name], precision=precision) for name in expected])
    if required:
        _require(worst, f"the {precision} model", "the fp32 model")
    return worst


def outputs_of(path: Path, inputs: Mapping[str, npt.NDArray[np.generic]], *, batch: int | None = None) -> Arrays:
    """Run a model file on the CPU, part by part: ``{name: (S, ...)}``.

    ``batch`` is the length of a fixed batch axis; an incomplete part at the end is then left out.
    """
    count, size = len(next(iter(inputs.values()))), batch or _PART
    starts = range(0, count - batch + 1 if batch and count >= batch else count, size)
    parts = []
    with OrtRuntime(path, precise=True) as runtime:
        wanted = {spec.name: spec.dtype for spec in runtime.inputs if spec.dtype == "float16"}
        for start in starts:
            part = {name: array[start : start + size] for name, array in inputs.items()}
            part = {name: array.astype(wanted.get(name, array.dtype), copy=False) for name, array in part.items()}
            parts.append(run(runtime, part))
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([np.atleast_1d(part[name]) for part in parts]) for name in parts[0]}


def _worst(parities: list[Parity]) -> Parity:
    return min(parities, key=lambda parity: (parity.passed, parity.sqnr_db))


def _require(parity: Parity, what: str, reference: str) -> None:
    if not parity.passed:
        raise CheckFailed(
            f"Parity failed: {what} does not agree with {reference} ({parity}).",
            "No file was written. Another --opset, or keeping the nodes concerned in fp32, may help.",
        )

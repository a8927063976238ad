import numpy as np
import pytest

from toolchain.accuracy.parity import compare

REFERENCE = np.random.default_rng(0).normal(size=(50, 10)).astype(np.float32)


@pytest.mark.parametrize(
    ("precision", "error", "passes"),
    [("fp32", 5e-5, True), ("fp32", 1e-3, False), ("fp16", 1e-3, True), ("fp16", 0.1, False)],
)
def test_the_tolerance_follows_the_precision(precision: str, error: float, passes: bool) -> None:
    assert compare(REFERENCE, REFERENCE + np.float32(error), precision=precision).passed is passes


def test_large_outputs_are_judged_relative_to_their_scale() -> None:
    assert compare(REFERENCE * 1e4, REFERENCE * 1e4 + 0.5, precision="fp32").passed
    assert not compare(REFERENCE, REFERENCE + 0.5, precision="fp32").passed


def test_int8_is_judged_by_its_noise() -> None:
    noise = np.random.default_rng(1).normal(size=REFERENCE.shape)
    assert compare(REFERENCE, REFERENCE + 0.1 * noise, precision="int8-static").passed
    assert not compare(REFERENCE, REFERENCE + noise, precision="int8-static").passed


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-dynamic"])
def test_nan_and_infinity_never_pass(bad: float, precision: str) -> None:
    broken = REFERENCE.copy()
    broken[3, 3] = bad
    assert not compare(REFERENCE, broken, precision=precision).passed
    assert not compare(broken, broken, precision=precision).passed


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-static"])
def test_zeros_never_pass_for_small_outputs(precision: str) -> None:
    assert not compare(REFERENCE * 1e-6, np.zeros_like(REFERENCE), precision=precision).passed


def test_another_shape_never_passes() -> None:
    assert not compare(REFERENCE, REFERENCE[:, :9], precision="fp32").passed


def test_agreement_counts_equal_answers() -> None:
    other = REFERENCE.copy()
    other[:10] = -other[:10]
    assert compare(REFERENCE, other, precision="fp32").agreement == pytest.approx(0.8, abs=0.05)

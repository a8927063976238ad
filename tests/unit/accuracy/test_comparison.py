from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolchain.accuracy import comparison
from toolchain.accuracy.comparison import Comparison, FaultKind
from toolchain.accuracy.output_kinds import Kind

REFERENCE = np.random.default_rng(0).normal(size=(50, 10)).astype(np.float32)
PRECISIONS = ["fp32", "fp16", "int8-static"]


def compare(reference: Any, result: Any, *, precision: str, kind: Kind | None = None) -> Comparison:
    """Two values of the output 'y', of one call."""
    kinds = {} if kind is None else {"y": kind}
    return comparison.compare([{"y": reference}], [{"y": result}], precision=precision, kinds=kinds, samples=50)


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


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-dynamic"])
def test_a_new_nan_or_infinity_never_passes_and_one_of_the_reference_is_equal(bad: float, precision: str) -> None:
    broken = REFERENCE.copy()
    broken[3, 3] = bad
    found = compare(REFERENCE, broken, precision=precision)
    assert [fault.kind for fault in found.faults] == [FaultKind.FINITE]
    assert "at 1 of 500 places" in found.why
    assert not compare(broken, REFERENCE, precision=precision).passed
    assert compare(broken, broken, precision=precision).passed


def test_infinities_of_the_other_sign_never_pass() -> None:
    broken = REFERENCE.copy()
    broken[3, 3] = np.inf
    assert not compare(broken, np.where(np.isinf(broken), -np.inf, broken), precision="int8-static").passed


@pytest.mark.parametrize("precision", PRECISIONS)
def test_zeros_never_pass_for_small_outputs(precision: str) -> None:
    assert not compare(REFERENCE * 1e-6, np.zeros_like(REFERENCE), precision=precision).passed


def test_another_shape_never_passes() -> None:
    assert not compare(REFERENCE, REFERENCE[:, :9], precision="fp32").passed


def test_the_same_class_is_said_of_class_scores_and_of_nothing_else() -> None:
    other = REFERENCE.copy()
    other[:10] = -other[:10]
    scores = compare(REFERENCE, other, precision="fp32", kind=Kind(class_scores=True))
    assert scores.same_answer == pytest.approx(0.8, abs=0.05)
    assert compare(REFERENCE, other, precision="fp32").same_answer is None
    assert "same class" not in str(compare(REFERENCE, REFERENCE, precision="fp32"))


def detector(random: np.random.Generator) -> np.ndarray:
    """Boxes in pixels beside scores from 0 to 1: (N, 4 + 5, places)."""
    boxes = 320 + 100 * random.normal(size=(4, 4, 64))
    scores = 1 / (1 + np.exp(-random.normal(size=(4, 5, 64))))
    return np.concatenate([boxes, scores], 1).astype(np.float32)


@pytest.mark.parametrize("precision", ["fp16", "int8-static"])
@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1)])
def test_a_lost_channel_is_found_and_named_though_the_whole_has_forty_decibels(
    precision: str, order: tuple[int, ...]
) -> None:
    reference = detector(np.random.default_rng(0))
    given_ = reference.copy()
    given_[:, 4:] = 0.5
    found = compare(reference.transpose(order), given_.transpose(order), precision=precision)
    assert found.sqnr_db is not None
    assert found.sqnr_db > 40
    axis = order.index(1)
    assert f"of axis {axis} became constant (4 other channels are lost too)" in found.why
    assert int(found.why.split()[3]) >= 4


def test_noise_of_the_size_of_a_channel_is_found_where_it_is_not_constant() -> None:
    random = np.random.default_rng(0)
    reference = detector(random)
    given_ = reference.copy()
    given_[:, 6] = random.permutation(given_[:, 6].ravel()).reshape(given_[:, 6].shape)
    found = compare(reference, given_, precision="int8-static")
    assert "channel 6 of axis 1 has -" in found.why


def test_an_offset_hides_nothing() -> None:
    random = np.random.default_rng(0)
    reference = 300 + 0.5 * random.normal(size=(64, 1))
    coarse = np.round(reference / 2.5) * 2.5
    assert not compare(reference, coarse, precision="int8-static").passed
    assert compare(reference, reference + 0.05 * random.normal(size=(64, 1)), precision="int8-static").passed


def eight_bits(values: np.ndarray) -> np.ndarray:
    """In 255 steps of the range of all."""
    step = (values.max() - values.min()) / 255
    rounded: np.ndarray = (np.round(values / step) * step).astype(np.float32)
    return rounded


@pytest.mark.parametrize(
    "reference",
    [
        np.exp(12 * REFERENCE) / np.exp(12 * REFERENCE).sum(1, keepdims=True),
        np.maximum(np.random.default_rng(2).normal(size=(16, 8, 12, 12)), 0),
        np.concatenate([np.full((50, 1), 5.0), REFERENCE], 1),
        np.concatenate([np.zeros((50, 1)), REFERENCE], 1),
        np.where(np.random.default_rng(3).random((8, 3, 20, 20)) > 0.99, 0.9, 0.002),
        np.random.default_rng(4).normal(size=(8, 1000)) * np.geomspace(0.2, 1, 1000),
    ],
    ids=["saturated softmax", "relu features", "constant channel", "zero channel", "rare scores", "a thousand logits"],
)
def test_eight_bits_of_an_output_s_own_range_pass(reference: np.ndarray) -> None:
    assert compare(reference, eight_bits(reference), precision="int8-static").faults == ()


def test_half_precision_is_not_refused_for_a_tail() -> None:
    random = np.random.default_rng(0)
    reference = random.normal(size=(4, 21, 32, 32))
    noise = 0.004 * random.normal(size=reference.shape)
    noise[0, 0, 0, 0] = 0.1
    assert compare(reference, reference + noise, precision="fp16").passed
    noise[0, 0, 0, 0] = 3
    assert not compare(reference, reference + noise, precision="fp16").passed


@pytest.mark.parametrize("mask", [-1e4, -1e9, float(np.finfo(np.float32).min)])
def test_the_values_of_a_mask_hide_nothing(mask: float) -> None:
    illegal = np.random.default_rng(5).random(REFERENCE.shape) < 0.3
    reference = np.where(illegal, mask, REFERENCE)
    assert compare(reference, reference, precision="int8-static").passed
    assert not compare(reference, np.where(illegal, mask, 0), precision="int8-static").passed


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_map_of_classes_is_judged_by_agreement(precision: str) -> None:
    classes = np.random.default_rng(0).integers(0, 21, (8, 32, 32))
    one_off = classes.copy()
    one_off[0, 0, 0] = (classes[0, 0, 0] + 20) % 21
    found = compare(classes, one_off, precision=precision)
    assert found.passed
    assert found.sqnr_db is None
    assert "equal answers 99.988%" in str(found)
    assert not compare(classes, (classes + 1) % 21, precision=precision).passed
    assert not compare(classes, one_off, precision=precision, kind=Kind(exact=True)).passed


def test_rows_that_the_data_picked_are_compared_as_sets() -> None:
    selected = Kind(selected=True)
    rows = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    shuffled = rows[np.random.default_rng(1).permutation(40)]
    assert compare(rows, shuffled, precision="int8-static", kind=selected).passed
    assert not compare(rows, shuffled, precision="int8-static").passed
    assert compare(rows, shuffled, precision="int8-static", kind=selected).agreement == 1
    assert compare(rows, rows[:38], precision="int8-static", kind=selected).passed
    assert not compare(rows, rows[:20], precision="int8-static", kind=selected).passed
    assert not compare(rows, rows[:10], precision="int8-static", kind=selected).passed
    places = np.stack([np.arange(100), np.arange(100) * 7])
    found = compare(places, places[:, :96], precision="int8-static", kind=selected)
    assert found.passed
    assert "96%" in str(found)


def test_rows_of_each_sample_are_compared_as_sets() -> None:
    ranked = np.random.default_rng(0).permuted(np.tile(np.arange(8), (20, 1)), axis=1)[:, :5]
    swapped = ranked[:, ::-1]
    assert compare(ranked, swapped, precision="int8-static", kind=Kind(selected=True)).agreement == 1
    assert not compare(ranked, swapped, precision="int8-static").passed


def test_what_passes_below_its_limit_says_why() -> None:
    picked = np.arange(9)
    few = compare(picked, np.where(picked < 2, 90, picked), precision="int8-static")
    assert few.passed
    assert str(few).endswith(
        "equal answers 77.778%; at least 80% equal, which 7 of 9 values neither prove nor disprove: they are too few"
    )
    many = compare(np.tile(picked, 400), np.tile(np.where(picked < 2, 90, picked), 400), precision="int8-static")
    assert not many.passed
    assert str(many).endswith("at least 80% equal")
    channels = np.random.default_rng(0).normal(size=(16, 2))
    noisy = channels.copy()
    noisy[:, 1] += channels[:, 1].std() * 10 ** (-9.5 / 20) * np.resize([1, -1], 16)
    found = compare(channels, noisy, precision="int8-static")
    assert found.passed
    assert found.channel_sqnr_db == pytest.approx(9.5)
    assert str(found).endswith("at least 10 dB, each channel too (9.0 dB for one of 16 values)")


def test_computed_whole_numbers_are_quantities_only_where_they_go_far() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16)).astype(np.uint8)
    brighter = np.minimum(picture.astype(np.int64) + 1, 255).astype(np.uint8)
    counted = Kind(counted=True)
    assert compare(picture, brighter, precision="fp32", kind=counted).passed
    assert not compare(picture, picture[::-1], precision="int8-static", kind=counted).passed
    flags = np.array([0, 1] * 50)
    assert not compare(flags, 1 - flags, precision="int8-static", kind=counted).passed


VALUES: dict[str, Any] = {
    "scalar": np.float32(3),
    "empty": np.zeros((0, 4), np.float32),
    "no columns": np.zeros((4, 0), np.float32),
    "half": REFERENCE.astype(np.float16),
    "double": REFERENCE.astype(np.float64),
    "ints": np.arange(12).reshape(3, 4),
    "bytes": np.arange(12, dtype=np.uint8),
    "truths": np.array([True, False]),
    "texts": np.array(["cat", "dog"], object),
    "all infinite": np.full((4, 3), -np.inf, np.float32),
    "all nan": np.full((4, 3), np.nan, np.float32),
    "sequence": [REFERENCE, REFERENCE[:3]],
    "empty sequence": [],
    "map": {"cat": 0.25, "dog": 0.75},
    "zipmap": [{"cat": 0.25, "dog": 0.75}, {"cat": 0.5, "dog": 0.5}],
    "integer keys": [{0: 0.25, 1: 0.75}],
}


@pytest.mark.parametrize("precision", [*PRECISIONS, "int4"])
@pytest.mark.parametrize("name", VALUES)
def test_everything_equals_itself(name: str, precision: str) -> None:
    found = compare(VALUES[name], VALUES[name], precision=precision)
    assert found.passed
    assert found.max_difference in (None, 0)
    assert str(found)


@pytest.mark.parametrize("name", VALUES)
def test_nothing_equals_what_is_built_otherwise(name: str) -> None:
    for other, value in VALUES.items():
        if other != name and {name, other} != {"half", "double"}:
            assert compare(VALUES[name], value, precision="int8-static").passed is False, other


def test_a_map_of_other_numbers_or_keys_is_found() -> None:
    probabilities = [{"cat": p, "dog": 1 - p} for p in np.linspace(0, 1, 20)]
    turned = [{"cat": each["dog"], "dog": each["cat"]} for each in probabilities]
    assert "of axis 1 has -" in compare(probabilities, turned, precision="int8-static").why
    renamed = [{"cat": each["cat"], "owl": each["dog"]} for each in probabilities]
    assert not compare(probabilities, renamed, precision="int8-static").passed


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(9)), st.sampled_from(["fp16", "int8-static"]), st.integers(-1, 8))
def test_the_order_of_channels_changes_no_verdict(order: list[int], precision: str, lost: int) -> None:
    random = np.random.default_rng(1)
    reference = detector(random)
    given_ = reference + reference.std((0, 2), keepdims=True) * 1e-3 * random.normal(size=reference.shape)
    if lost >= 0:
        given_[:, lost] = given_[:, lost].mean()
    straight = compare(reference, given_, precision=precision)
    turned = compare(reference[:, order], given_[:, order], precision=precision)
    assert straight.passed is turned.passed is (lost < 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9), st.integers(0, 9), st.sampled_from([1e-6, 1e-3, 1e3, 1e6]))
def test_scaling_one_channel_hides_no_other(lost: int, scaled: int, factor: float) -> None:
    given_ = REFERENCE.astype(np.float64)
    given_[:, lost] = 0
    scale = np.ones(10)
    scale[scaled] = factor
    assert not compare(REFERENCE * scale, given_ * scale, precision="int8-static").passed


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(VALUES)), st.sampled_from(PRECISIONS))
def test_another_output_never_turns_a_failure_into_a_pass(name: str, precision: str) -> None:
    more = {"more": VALUES[name]}
    found = comparison.compare(
        [{"y": REFERENCE, **more}], [{"y": -REFERENCE, **more}], precision=precision, samples=50
    )  # fmt: skip
    assert not found.passed
    missing = comparison.compare([{"y": REFERENCE}], [{"y": REFERENCE, **more}], precision=precision)
    assert not missing.passed


def test_outputs_without_a_batch_axis_keep_the_names_of_their_axes() -> None:
    calls = [{"y": REFERENCE[start : start + 5]} for start in range(0, 50, 5)]
    lost = [{"y": np.where(np.arange(10) == 7, 0, call["y"])} for call in calls]
    found = comparison.compare(calls, lost, precision="int8-static", axes={"y": None, "x": 0})
    assert "channel 7 of axis 1 became constant" in found.why


@pytest.mark.parametrize(("noise_db", "int8", "fp16"), [(60, True, True), (10, True, False), (-20, False, False)])
def test_a_ranking_of_all_is_compared_by_its_order(noise_db: int, int8: bool, fp16: bool) -> None:
    """As sets any two orders of the same are equal."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(32, 40))
    given = scores + rng.normal(size=scores.shape) * 10 ** (-noise_db / 20)
    for precision, right in (("int8-static", int8), ("fp16", fp16)):
        orders = (-scores).argsort(1), (-given).argsort(1)
        assert compare(*orders, precision=precision, kind=Kind(selected=True)).passed is right


def test_rounding_of_a_small_channel_that_is_a_sum_of_large_numbers_is_no_fault() -> None:
    draw = np.random.default_rng(0)
    level = np.where(np.arange(100) == 7, 1e-3, draw.normal(size=100))
    wanted = (level + 1e-3 * draw.normal(size=(16, 100))).astype(np.float32)  # as of images of noise
    noise = draw.normal(size=wanted.shape).astype(np.float32) * 3e-7  # of float32, beside numbers around 1
    assert comparison.compare([{"y": wanted}], [{"y": wanted + noise}], precision="fp32").passed
    lost = wanted.copy()
    lost[:, 7] = wanted[:, 7].mean()
    assert not comparison.compare([{"y": wanted}], [{"y": lost}], precision="fp32").passed


@pytest.mark.parametrize("level", [0.0, 1e-9, 1e-5])
def test_rounding_of_a_small_channel_that_does_not_vary_is_no_fault(level: float) -> None:
    random = np.random.default_rng(0)
    wanted = random.normal(size=(16, 4)).astype(np.float32)
    wanted[:, 2] = level
    noise = random.normal(size=wanted.shape).astype(np.float32)
    assert compare(wanted, wanted + 1e-7 * noise, precision="fp32").passed
    assert not compare(wanted, wanted + 1e-4 * noise, precision="fp32").passed

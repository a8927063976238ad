"""Integers and scales: bit for bit those of ONNX Runtime's quantizer, and the algebra that they rest on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from exporters.calibration.thresholds import Range
from exporters.int8 import weights

FLOATS = st.floats(-1e4, 1e4, width=32)
MATRICES = npst.arrays(np.float32, npst.array_shapes(min_dims=2, max_dims=4, max_side=5), elements=FLOATS)


@given(MATRICES, st.booleans())
def test_a_weight_is_off_by_half_a_step_at_most(values: np.ndarray, reduce_range: bool) -> None:
    scaling = weights.of_weight(values, axis=0, reduce_range=reduce_range)
    integers = weights.rounded(values, scaling)
    steps = scaling.scale.reshape(-1, *[1] * (values.ndim - 1))
    assert np.abs(integers.astype(int)).max() <= (64 if reduce_range else 127)
    assert (np.abs(integers * steps - values) <= 0.501 * steps).all()


@given(st.floats(-100, 0), st.floats(0.01, 100), st.sampled_from(["int8", "uint8"]), st.booleans())
def test_zero_is_exact_and_the_range_is_held(low: float, high: float, dtype: str, symmetric: bool) -> None:
    scaling = weights.of_activation(Range(low, high), dtype, symmetric=symmetric)
    ends = weights.rounded(np.array([0.0, low, high], np.float32), scaling).astype(np.float64)
    found = (ends - float(scaling.zero_point)) * float(scaling.scale)
    assert found[0] == 0
    # a symmetric uint8 has one step less above its middle
    assert np.abs(found[1:] - [low, high]).max() <= 1.001 * float(scaling.scale)


def test_known_values() -> None:
    plain = weights.of_weight(
        np.array([[127.0, -1.0], [0.0, 0.0], [254.0, 3.0]], np.float32), axis=0, reduce_range=False
    )
    assert plain.scale.tolist() == [1.0, 1.0, 2.0]
    assert weights.of_activation(Range(-1.0, 254.0), "uint8", symmetric=False).zero_point == 1
    assert weights.of_activation(Range(-127.0, 12.0), "int8", symmetric=True).scale == 1


@pytest.mark.parametrize("axis", [None, 0])
def test_a_huge_bias_widens_its_weight(axis: int | None) -> None:
    """An int32 at the scale of the products ends at 2**31 of its steps."""
    values, bias = np.full((2, 3), 1e-4, np.float32), np.array([1e4, 1.0], np.float32)
    plain = weights.of_weight(values, axis=axis, reduce_range=False)
    input_scale = np.array(1e-3, np.float32)
    wide = weights.widened(plain, [(input_scale, bias)])
    scaling = weights.of_bias(input_scale, wide)
    integers = weights.rounded_bias(bias, scaling)
    assert integers * scaling.scale.astype(np.float64) == pytest.approx(bias, rel=1e-6)
    assert (wide.scale >= plain.scale).all()

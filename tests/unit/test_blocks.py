"""Weights of 4 bits: how they are packed, which scale a block takes, and that its errors add up to nothing."""

import numpy as np
import pytest

from exporters.blocks import Blocks, rounded
from exporters.int4 import BLOCK_SIZES


def back(blocks: Blocks, inputs: int) -> np.ndarray:
    """What the weights stand for, ``(K, N)``, read off the nibbles as a runtime does."""
    nibbles, zeros = blocks.nibbles, blocks.packed_zero_points
    values = np.stack([nibbles & 15, nibbles >> 4], -1).reshape(blocks.values.shape)
    points = np.stack([zeros & 15, zeros >> 4], -1).reshape(len(zeros), -1)[:, : blocks.scales.shape[1]]
    found = (values.astype(np.float32) - points[..., None]) * blocks.scales[..., None]
    return found.reshape(len(found), -1)[:, :inputs].T


def decibels(right: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(right.var() / np.mean((right - got) ** 2)))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("size", BLOCK_SIZES)
def test_no_weight_is_further_off_than_one_step_of_the_widest_range(size: int, symmetric: bool) -> None:
    weight = np.random.default_rng(0).normal(size=(300, 7)).astype(np.float32)
    blocks = rounded(weight, size, symmetric=symmetric)
    assert blocks.nibbles.shape == (7, -(-300 // size), size // 2)
    assert np.abs(back(blocks, 300) - weight).max() < 1.4 * np.abs(weight).max() / 7


@pytest.mark.parametrize("symmetric", [True, False])
def test_after_a_relu_products_are_as_right_as_of_values_around_zero(symmetric: bool) -> None:
    """To the nearest they were 19.8 beside 21.3 dB."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(1024, 64)).astype(np.float32)
    found = back(rounded(weight, 32, symmetric=symmetric), 1024)
    plain = random.normal(size=(256, 1024)).astype(np.float32)
    for given in (plain, np.maximum(plain, 0)):
        assert decibels(given @ weight, given @ found) > 21.0


def test_the_errors_of_a_block_add_up_to_less_than_a_step() -> None:
    weight = np.random.default_rng(2).normal(size=(320, 16)).astype(np.float32)
    blocks = rounded(weight, 32, symmetric=True)
    error = (back(blocks, 320) - weight).T.reshape(16, 10, 32).sum(-1) / np.abs(blocks.scales)
    assert (np.abs(error) < 1).mean() > 0.98  # a block that its range cuts off has nothing to turn


def test_what_4_bits_hold_is_kept_exactly() -> None:
    weight = (np.arange(32, dtype=np.float32) % 16 - 8)[:, None] * np.array([[0.5, -0.25, 0.0]], np.float32)
    blocks = rounded(weight, 32, symmetric=True)
    np.testing.assert_array_equal(back(blocks, 32), weight)


def test_weights_that_pad_a_block_stay_zero() -> None:
    weight = np.random.default_rng(3).normal(size=(37, 5)).astype(np.float32) + 2
    blocks = rounded(weight, 32, symmetric=True)
    assert (blocks.values[:, 1, 5:] == 8).all()

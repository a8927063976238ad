"""Weights of 4 bits in blocks that share a scale: which scale, and which way each weight is rounded.

Nearest to the largest of a block is not the nearest whole: of some narrower ranges the one with the least squared error
is taken. Then the errors of a block shall add up to nothing: what follows an activation function has a mean, and with a
mean a block's sum of errors does not average out but shifts the result. So the weights that were nearest to being
rounded the other way are, until the sum is less than half a step (as SQuant does, Guo et al. 2022, arXiv:2202.07471).

SQNR of products in blocks of 32, beside rounding to the nearest with the largest as the range: Gaussian weights and
activations 21.4 for 21.3 dB, activations after a Relu 21.4 for 19.8, means of an image's features 5.3 for 1.7.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
_NARROWER = (1.0, 0.93, 0.86)
_MOST_AT_ONCE = 1 << 22
_LEVELS, _MIDDLE = 15, 8


@dataclass(frozen=True)
class Blocks:
    """``values`` ``(N, blocks, block_size)`` from 0 to 15, ``scales`` and ``zero_points`` ``(N, blocks)``."""

    values: Bytes
    scales: Floats
    zero_points: Bytes

    @property
    def nibbles(self) -> Bytes:
        """Two values a byte, the first in the lower half: ``(N, blocks, block_size / 2)``."""
        return _paired(self.values)

    @property
    def packed_zero_points(self) -> Bytes:
        """The same of the zero points, ``(N, ceil(blocks / 2))``; an odd one has the middle beside it."""
        return _paired(np.pad(self.zero_points, ((0, 0), (0, self.zero_points.shape[1] % 2)), constant_values=_MIDDLE))


def rounded(weight: Floats, block_size: int, *, symmetric: bool) -> Blocks:
    """``weight`` ``(K, N)``, inputs padded with zeros to whole blocks; with zero points if not ``symmetric``."""
    inputs, outputs = weight.shape
    count = -(-inputs // block_size)
    step = max(1, _MOST_AT_ONCE // (count * block_size))
    found = []
    for start in range(0, outputs, step):
        columns = weight[:, start : start + step].T
        padded = np.zeros((len(columns), count * block_size), np.float32)
        padded[:, :inputs] = columns
        found.append(_rounded(padded.reshape(len(columns), count, block_size), symmetric=symmetric))
    return Blocks(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _rounded(blocks: Floats, *, symmetric: bool) -> tuple[Bytes, Floats, Bytes]:
    best = np.full(blocks.shape[:2], np.inf, np.float32)
    scales, zeros = np.ones(blocks.shape[:2], np.float32), np.full(blocks.shape[:2], _MIDDLE, np.float32)
    for share in _NARROWER:
        scale, zero = _range(blocks, np.float32(share), symmetric=symmetric)
        error = np.square((_nearest(blocks, scale, zero) - zero[..., None]) * scale[..., None] - blocks).sum(-1)
        better = error < best
        best, scales, zeros = (np.where(better, *pair) for pair in ((error, best), (scale, scales), (zero, zeros)))
    values = _nearest(blocks, scales, zeros)
    return _levelled(blocks, values, scales, zeros).astype(np.uint8), scales, zeros.astype(np.uint8)


def _range(blocks: Floats, share: np.float32, *, symmetric: bool) -> tuple[Floats, Floats]:
    """(scale, zero point) when the range is that much narrower than the block's; a block of zeros has the scale 1."""
    high, low = np.maximum(blocks.max(-1), 0), np.minimum(blocks.min(-1), 0)
    if symmetric:  # there is one level more below zero: the largest goes there, with a scale of its sign turned
        scale = np.where(high > -low, high, low) * share / np.float32(-_MIDDLE)
    else:
        scale = (high - low) * share / np.float32(_LEVELS)
    scale = np.where(scale == 0, np.float32(1), scale)
    zero = np.full_like(scale, _MIDDLE) if symmetric else np.clip(np.rint(-low * share / scale), 0, _LEVELS)
    return scale, zero


def _nearest(blocks: Floats, scale: Floats, zero: Floats) -> Floats:
    found: Floats = np.clip(np.rint(blocks / scale[..., None] + zero[..., None]), 0, _LEVELS)
    return found


def _levelled(blocks: Floats, values: Floats, scale: Floats, zero: Floats) -> Floats:
    """``values`` with as many rounded the other way as bring the sum of each block's errors nearest to none."""
    error = values - zero[..., None] - blocks / scale[..., None]
    total = error.sum(-1)
    sign = np.sign(total)[..., None]
    other = values - sign
    gain = np.where((other >= 0) & (other <= _LEVELS) & (blocks != 0), error * sign, -np.inf)
    turned = np.zeros(values.shape, bool)
    needed = np.arange(values.shape[-1]) < np.rint(np.abs(total))[..., None]
    np.put_along_axis(turned, np.argsort(-gain, -1), needed, -1)
    return np.where(turned & (gain > 0), other, values)


def _paired(values: Bytes) -> Bytes:
    found: Bytes = np.bitwise_or(values[..., 0::2], np.left_shift(values[..., 1::2], 4), dtype=np.uint8)
    return found

"""How pictures of any size become arrays of one: what a recipe's data and a device both do."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from toolchain.datasets import image_file, preparation
from toolchain.datasets.dataset import Scale
from toolchain.errors import BadUsage

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of the pixels of ImageNet, which most pretrained models want."""
_WHITE = 255.0


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures as uint8 ``(3, H, W)`` of the given ``size``, which is (H, W); None leaves each its own.

    A picture is made so large that ``size`` is the share ``crop`` of it, and cut from its middle; with ``crop`` None it
    is stretched. ``mean`` and ``std``, one a channel and of pixels from 0 to 1, scale them for the model.
    """

    size: tuple[int, int] | None = None
    crop: float | None = 1.0
    mean: Sequence[float] = IMAGENET[0]
    std: Sequence[float] = IMAGENET[1]

    def __post_init__(self) -> None:
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise BadUsage(f"Pictures of the size {self.size}.", "Give (height, width).")
        if self.crop is not None and not 0 < self.crop <= 1:
            raise BadUsage(f"A crop of {self.crop} of a picture.", "Give a share above 0 and up to 1, or None.")

    def decode(self, content: bytes, name: object, *, advice: str = "Remove it.") -> npt.NDArray[np.uint8]:
        """``(3, H, W)``. BadUsage that calls it ``name`` for what is no picture, or too large a one."""
        if self.size is None:
            pixels = image_file.decoded(content, name, advice=advice)
        else:
            height, width = self.size
            whole = image_file.decoded(content, name, advice=advice, resize=self._before_the_cut)
            top, left = (whole.shape[0] - height) // 2, (whole.shape[1] - width) // 2
            pixels = whole[top : top + height, left : left + width]
        return np.ascontiguousarray(
            pixels.transpose(2, 0, 1)
        )  # here, where a thread reads, and not where they are stacked

    @property
    def scale(self) -> Scale:
        """Of what :meth:`decode` gives."""
        return Scale(divisor=_WHITE, mean=tuple(self.mean), std=tuple(self.std))

    def save(self, folder: Path) -> list[Path]:
        """For a device; nothing where every picture keeps its own size."""
        if self.size is None:
            return []
        how = preparation.of_image((3, *self.size), mean=self.mean, std=self.std, crop=self.crop)
        return [preparation.save(folder, how)]

    def _before_the_cut(self, given: tuple[int, int]) -> tuple[int, int]:
        """(width, height) of a picture that was (width, height)."""
        assert self.size is not None
        height, width = self.size
        if self.crop is None:
            return width, height
        scale = 1 / self.crop * max(height / given[1], width / given[0])
        return max(width, round(given[0] * scale)), max(height, round(given[1] * scale))

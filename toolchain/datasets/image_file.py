"""One image, decoded; a file that is none, or that would fill the memory, is the user's to remove."""

import contextlib
import io
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from toolchain import regular_file
from toolchain.errors import BadUsage, is_of_the_machine

MOST_PIXELS = 89_478_485
"""Beyond these Pillow, too, takes a file for a bomb; 268 MB as RGB."""
_LARGE = 16_000_000  # pixels; of such images one at a time is decoded, whatever the number of threads
_one_at_a_time = threading.Lock()

Size = tuple[int, int]


def decode(path: Path, *, advice: str, resize: Callable[[Size], Size] | None = None) -> npt.NDArray[np.uint8]:
    """What :func:`decoded` gives of the file."""
    return decoded(regular_file.read_bytes(path), str(path), advice=advice, resize=resize)


def decoded(
    content: bytes, name: object, *, advice: str, resize: Callable[[Size], Size] | None = None
) -> npt.NDArray[np.uint8]:
    """``(H, W, 3)``, or after a resize to what ``resize`` says of its (width, height).

    BadUsage, which calls it ``name`` and says what to do as ``advice``, for what is no image, or too large a one.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            size = image.size if resize is None else resize(image.size)
            pixels = max(image.width * image.height, size[0] * size[1])  # a line of pixels becomes a long area
            if pixels > MOST_PIXELS:
                raise BadUsage(
                    f"{name} is {image.width} x {image.height}: {pixels / 1e6:,.0f} million pixels to decode.", advice
                )
            with _one_at_a_time if pixels > _LARGE else contextlib.nullcontext():
                plain = image.convert("RGB")
                return np.asarray(plain if resize is None else plain.resize(size, Image.Resampling.BILINEAR))
    except (BadUsage, MemoryError):
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error and more for bytes that are no image
        if is_of_the_machine(error):
            raise
        raise BadUsage(f"{name} is not a readable image.", advice) from error

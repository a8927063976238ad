"""How a device makes a model's input of what people have, a picture or a sentence: data in a file, never code."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exporters.atomic_file import write_text

NAME = "preprocessing.json"
"""Beside a model, and in a package; ``nnx pack`` adds which input it makes."""
_WHITE = 255
"""What a picture's file says of the brightest pixel."""


def of_image(
    shape: tuple[int, int, int], *, mean: Sequence[float], std: Sequence[float], crop: float | None = None
) -> dict[str, Any]:
    """Of a picture as ``(channels, height, width)``: ``(pixel / 255 - mean) / std``, mean and std one a channel.

    It is stretched to that size; with ``crop`` it is made so large that ``shape`` is this share of it, from its middle.
    """
    channels, height, width = shape
    return {
        "kind": "image",
        "layout": "NCHW",
        "channels": channels,
        "height": height,
        "width": width,
        "resize": "bilinear",
        "crop": crop,
        "scale": 1 / _WHITE,
        "mean": list(mean),
        "std": list(std),
    }


def save(folder: Path, content: Mapping[str, Any]) -> Path:
    """Write it beside the model."""
    path = folder / NAME
    write_text(path, json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")
    return path

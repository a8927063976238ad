"""What the bytes of a file or a member mean, by its extension: data alone, for nothing of it is ever run."""

import io
import json
from typing import Any

import numpy as np

from toolchain.datasets.bad_samples import BadSample
from toolchain.datasets.pictures import Pictures
from toolchain.errors import BadUsage, is_of_the_machine

PICTURES = ("jpg", "jpeg", "png", "webp", "bmp", "ppm")
_KINDS = (*PICTURES, "npy", "cls", "json", "txt")


def require_known(extension: str) -> None:
    """BadUsage for one that is not decoded, such as a pickle."""
    if extension.rpartition(".")[2].lower() not in _KINDS:
        raise BadUsage(f"A member '.{extension}' is not decoded.", f"Those are: {', '.join(_KINDS)}.")


def is_picture(extension: str) -> bool:
    """Whether it becomes pixels."""
    return extension.rpartition(".")[2].lower() in PICTURES


def decoded(content: bytes, extension: str, name: object, pictures: Pictures) -> Any:
    """Pixels, an array, a number, a text, or what stands in JSON. Raises BadSample, which calls it ``name``."""
    kind = extension.rpartition(".")[2].lower()
    try:
        if kind in PICTURES:
            return pictures.decode(content, name)
        if kind == "npy":
            array = np.load(io.BytesIO(content), allow_pickle=False)
            if array.dtype.kind in "fc" and not np.isfinite(array).all():
                raise BadSample(f"{name} holds NaN or infinity")
            return array
        text = content.decode()
        if kind == "cls":
            return np.int64(text)
        return json.loads(text) if kind == "json" else text
    except BadUsage as error:
        raise BadSample(error.what.rstrip(".")) from error
    except BadSample:
        raise
    except Exception as error:  # numpy and json raise what they like for bytes that are none of theirs
        if is_of_the_machine(error):
            raise
        raise BadSample(f"{name} is not a readable .{kind}") from error

"""Requests as a client makes them, written here without the code that reads them."""

import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from toolchain.serving.protocol import Interface
from toolchain.shipping.package import Tensor

Array = npt.NDArray[Any]
NAMES = {
    "bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "uint8": "UINT8",
    "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "float16": "FP16", "float32": "FP32",
    "float64": "FP64",
}  # fmt: skip


def body_of(feeds: Mapping[str, Array], *, binary: Collection[str] = (), **more: Any) -> tuple[bytes, int]:
    """(body, how much of it is JSON) of a request; ``more`` stands in its JSON beside the inputs."""
    inputs, content = [], b""
    for name, array in feeds.items():
        entry: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": NAMES[array.dtype.name]}
        if name in binary:
            content += array.tobytes()
            entry["parameters"] = {"binary_data_size": array.nbytes}
        else:
            entry["data"] = array.ravel().tolist()
        inputs.append(entry)
    header = json.dumps({"inputs": inputs, **more}).encode()
    return header + content, len(header)


def model(
    inputs: str = "x", outputs: str = "y", dtype: str = "float32", shape: tuple[int | str, ...] = ("N", 2)
) -> Interface:
    """One whose inputs and outputs, each a letter, are all of that type and shape."""
    return Interface(
        name="net",
        version="1.0.0",
        inputs={name: Tensor(name=name, dtype=dtype, shape=shape) for name in inputs},
        outputs={name: Tensor(name=name, dtype=dtype, shape=shape) for name in outputs},
    )


def taking(array: Array) -> Interface:
    """A model that takes arrays of that type and rank in ``x``, and gives them in ``y``."""
    return model(dtype=array.dtype.name, shape=tuple(f"d{axis}" for axis in range(array.ndim)))


ONES = np.ones((1, 2), np.float32)

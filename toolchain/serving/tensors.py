"""Values as the protocol carries them: lists in JSON, or plain bytes, little-endian, row by row."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from toolchain.serving.refusal import Refusal

Array = npt.NDArray[Any]
_WHOLE = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
DATATYPES = {
    "bool": "BOOL",
    **{name: name.upper() for name in _WHOLE},
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
"""What the protocol calls numpy's types. BYTES and BF16 are not among them: no package has such golden values."""
_KINDS: dict[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}}
_MOST_AXES = 64  # numpy's own
_MOST_LENGTH = 2**31 - 1


def from_bytes(name: str, content: memoryview | bytes, dtype: str, shape: Sequence[int]) -> Array:
    """The values of ``name``; raise Refusal for another number of bytes, and for a BOOL that is neither 0 nor 1.

    The array may lie in ``content`` itself, and is then not to be written to.
    """
    wanted = math.prod(shape) * np.dtype(dtype).itemsize
    if len(content) != wanted:
        raise Refusal(
            400,
            f"Input '{name}' of shape {list(shape)} takes {wanted} bytes of {DATATYPES[dtype]}, not {len(content)}.",
        )
    array = np.frombuffer(content, np.dtype(dtype).newbyteorder("<"))
    if dtype == "bool" and array.view(np.uint8).max(initial=0) > 1:
        raise Refusal(400, f"Input '{name}' is BOOL, and holds bytes that are neither 0 nor 1.")
    array = array.astype(dtype, copy=False)
    return np.require(array, requirements=["ALIGNED"]).reshape(shape)


def to_bytes(array: Array) -> bytes:
    """What :func:`from_bytes` reads."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def from_list(name: str, data: Any, dtype: str, shape: Sequence[int]) -> Array:
    """The values of ``name``, a list of all of them or lists in lists of the form of ``shape``.

    Raises Refusal for another form or number, for values of another kind (2.5, or true, where whole numbers are
    wanted), and for what the type does not hold.
    """
    values = _flat(name, data, shape)
    kinds = set(map(type, values))
    datatype = DATATYPES[dtype]
    if not kinds <= _KINDS[np.dtype(dtype).kind]:
        wrong = next(kind for kind in kinds if kind not in _KINDS[np.dtype(dtype).kind])
        raise Refusal(400, f"Input '{name}' is {datatype}, and its data hold {_called(wrong)}.")
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, dtype)
    except OverflowError:
        array = None
    if array is None or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        raise Refusal(400, f"Input '{name}' is {datatype}, and its data hold a number beyond that type.")
    return array.reshape(shape)


def to_list(name: str, array: Array) -> list[Any]:
    """All values, row by row; raise Refusal for NaN and infinity, which JSON has not."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise Refusal(400, f"Output '{name}' holds NaN or infinity, which JSON cannot: ask for binary data.")
    values: list[Any] = array.ravel().tolist()
    return values


def _flat(name: str, data: Any, shape: Sequence[int]) -> list[Any]:
    if type(data) is not list:
        raise Refusal(400, f"The data of input '{name}' are no list.")
    count = math.prod(shape)
    if not data or type(data[0]) is not list:
        if len(data) != count:
            raise Refusal(400, f"Input '{name}' of shape {list(shape)} takes {count} values, not {len(data)}.")
        return data
    level = [data]
    for length in shape:
        if any(type(part) is not list or len(part) != length for part in level):
            raise Refusal(400, f"The data of input '{name}' are not nested as its shape {list(shape)} says.")
        level = list(itertools.chain.from_iterable(level))
    return level


def require_shape(name: str, shape: Any, wanted: Sequence[int | str]) -> tuple[int, ...]:
    """``shape`` as numbers; raise Refusal for what is no shape, and for one that the model does not take."""
    if type(shape) is not list or len(shape) > _MOST_AXES or not all(_is_length(axis) for axis in shape):
        raise Refusal(400, f"The shape of input '{name}' is no list of whole numbers from 1 to {_MOST_LENGTH}.")
    fits = len(shape) == len(wanted) and all(
        not isinstance(axis, int) or axis == length for axis, length in zip(wanted, shape, strict=True)
    )
    if not fits:
        raise Refusal(400, f"Input '{name}' has the shape {shape}, the model wants {[*wanted]}.")
    return tuple(shape)


def _is_length(axis: Any) -> bool:
    return type(axis) is int and 1 <= axis <= _MOST_LENGTH


def _called(kind: type) -> str:
    names = {bool: "true or false", int: "numbers", float: "numbers with a fraction", str: "texts", list: "lists"}
    return names.get(kind, "null" if kind is type(None) else "objects")

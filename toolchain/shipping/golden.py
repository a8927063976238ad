"""What a device must answer: real inputs, each variant's outputs, how far it may be off, in JSON and plain bytes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters import feeds
from toolchain.inputs.samples import Samples
from toolchain.shipping.tolerance import Answers, require_numbers

Array = npt.NDArray[Any]
_SINGLES = 7
_TOGETHER = 4
"""Kernels take another road through a batch than through one sample."""
_ALIGNMENT = 8
"""Of each array, so that it can be used where it lies."""
_MOST_BYTES = 4_000_000
"""Of all inputs: a package is sent over slow lines."""


@dataclass(frozen=True)
class Cases:
    """The calls: first ``singles`` of one sample each (or one batch, where it is fixed), then some of them together.

    ``texts`` are the sentences of which inputs were made, None where they were made of none.
    """

    calls: Sequence[Mapping[str, Array]]
    singles: int
    texts: Sequence[str | None]


def choose(samples: Samples, texts: Sequence[str] = ()) -> Cases:
    """Samples evenly spread over all there are, as many as are light enough to be sent."""
    axes, size = samples.axes, samples.axes.fixed or 1
    one = samples.call(size)
    bytes_each = max(1, sum(array.nbytes for array in one.values()))
    alone = feeds.run_alone(samples.inputs, axes)
    batches = len(samples) if alone else len(samples) // size
    count = max(1, min(_SINGLES, batches, _MOST_BYTES // bytes_each))
    # the middle of each part: neither end of a data set is like the rest where it is sorted
    starts = [(2 * part + 1) * batches // (2 * count) * (1 if alone else size) for part in range(count)]
    calls = [_call(samples, range(start, start + (1 if alone else size))) for start in starts]
    spoken: list[str | None] = [texts[start] if start < len(texts) else None for start in starts]
    together = min(_TOGETHER, count)
    if not alone and axes.fixed is None and together > 1 and (count + together) * bytes_each <= _MOST_BYTES:
        calls.append(feeds.stacked(samples.inputs, axes, feeds.like(samples.inputs, axes, starts[0], together)))
        spoken.append(None)
    return Cases(calls, count, spoken)


def _call(samples: Samples, rows: range) -> Mapping[str, Array]:
    return feeds.stacked(samples.inputs, samples.axes, list(rows))


def written(cases: Cases, answers: Mapping[str, Answers]) -> tuple[str, bytes]:
    """(golden.json, golden.bin); ``answers`` by variant.

    Arrays lie one after another at multiples of 8 bytes, little-endian, row by row. Raises BadUsage for values that are
    no arrays of numbers.
    """
    content = bytearray()
    told = []
    for number, (call, text) in enumerate(zip(cases.calls, cases.texts, strict=True)):
        told.append(
            {
                "text": text,
                "inputs": [_added(content, name, array) for name, array in call.items()],
                "outputs": {
                    variant: [_added(content, name, array) for name, array in each.outputs[number].items()]
                    for variant, each in answers.items()
                },
            }
        )
    tolerances = {
        variant: {name: asdict(each) for name, each in given.tolerances.items()} for variant, given in answers.items()
    }
    described = {"format": 1, "singles": cases.singles, "cases": told, "tolerances": tolerances}
    return json.dumps(described, ensure_ascii=False, allow_nan=False) + "\n", bytes(content)


def _added(content: bytearray, name: str, value: Array) -> dict[str, Any]:
    require_numbers(name, value)
    content += bytes(-len(content) % _ALIGNMENT)
    little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    entry: dict[str, Any] = {"name": name, "dtype": value.dtype.name, "shape": list(value.shape)}
    entry |= {"offset": len(content), "bytes": little.nbytes}
    content += little.tobytes()
    return entry

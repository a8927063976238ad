"""From samples to what one call of a model takes: stacked where it has a batch axis, one by one where it has none."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters.batch_axes import BatchAxes, Shape
from exporters.errors import BadCalibrationData

Array = npt.NDArray[Any]
SampleArray = Array | Sequence[Array]
"""``(S, ...)``, or a list of S arrays where they are of unequal shape."""
SampleSet = Mapping[str, SampleArray]
"""Input name -> its samples. An input with a batch axis has its own rank here, the first axis counting samples, or one
axis more where each sample is a call of its own; one without is ``(S, *shape)``, or ``shape`` for a shared value."""
_COMPARED_BYTES = 4_096
"""Values without a batch axis up to it are brought together where they are the same."""


def count_of(samples: SampleSet, axes: BatchAxes) -> int:
    """How many samples there are; what all of them share does not count, and alone it is one sample."""
    counts = {name: len(array) for name, array in samples.items() if not is_shared(array, name, axes)}
    if len(set(counts.values())) > 1:
        raise BadCalibrationData(
            f"The inputs have these numbers of samples: {counts}.", "Give every input the same number, at least one."
        )
    return next(iter(counts.values()), 1)


def is_shared(array: SampleArray, name: str, axes: BatchAxes) -> bool:
    """Whether an input without a batch axis is given once for all samples."""
    shape = axes.shapes.get(name)
    return (
        isinstance(array, np.ndarray)
        and axes.inputs.get(name) is None
        and shape is not None
        and array.ndim == len(shape)
    )


def expanded(samples: SampleSet, axes: BatchAxes) -> dict[str, SampleArray]:
    """``samples`` with as many of what they share as there are of the rest, in the memory of one."""
    count = count_of(samples, axes)
    return {
        name: np.broadcast_to(array, (count, *np.shape(array))) if is_shared(array, name, axes) else array
        for name, array in samples.items()
    }


def some(samples: SampleSet, axes: BatchAxes, start: int, count: int) -> dict[str, SampleArray]:
    """``count`` samples from ``start`` on, or as many of the last as there are; whole batches of a fixed size."""
    fixed = 1 if run_alone(samples, axes) else axes.fixed or 1
    count = max(count // fixed, 1) * fixed
    start = max(0, min(start, count_of(samples, axes) - count))
    return {
        name: array if is_shared(array, name, axes) else array[start : start + count] for name, array in samples.items()
    }


def chosen(array: SampleArray, rows: npt.NDArray[np.int64]) -> SampleArray:
    """Some of an input's samples; what they share stays in the memory of one."""
    if not isinstance(array, np.ndarray):
        return [array[row] for row in rows]
    if _is_one(array):
        return np.broadcast_to(array[:1], (len(rows), *array.shape[1:])) if len(array) else array
    return array[rows]


def samples_first(arrays: SampleSet, axes: BatchAxes) -> SampleSet:
    """``arrays`` with the samples on the first axis also of those that were given as the model itself takes them.

    Only an input whose batch is not its first axis can be either: what its other axes say, else how many samples the
    other inputs have, tells which.
    """
    plain = (array for name, array in arrays.items() if axes.inputs.get(name) == 0)
    counts = {len(array) for array in plain if not isinstance(array, np.ndarray) or array.ndim}
    made = dict(arrays)
    for name, array in arrays.items():
        axis, shape = axes.inputs.get(name), axes.shapes.get(name)
        if not axis or shape is None or not isinstance(array, np.ndarray) or not fits(array.shape, shape):
            continue
        one = (*shape[:axis], *shape[axis + 1 :])
        if not fits(array.shape[1:], one) or (counts == {array.shape[axis]} and len(array) not in counts):
            made[name] = np.moveaxis(array, axis, 0)
    return made


def fits(given: Sequence[int], wanted: Shape) -> bool:
    """Whether a shape has the rank and the fixed lengths of another."""
    return len(given) == len(wanted) and all(
        not isinstance(axis, int) or axis == length for axis, length in zip(wanted, given, strict=True)
    )


def in_like_order(samples: SampleSet, axes: BatchAxes) -> SampleSet:
    """``samples`` with those of one shape, and of one value where there is no batch axis, beside each other.

    For what does not depend on their order: calls are fewer and larger.
    """
    count = count_of(samples, axes)
    keys = [_key(samples, axes, row) for row in range(count)]
    if len(set(keys)) <= 1:
        return samples
    rows = np.array(sorted(range(count), key=keys.__getitem__, reverse=True), np.int64)  # what takes most comes first
    return {name: array if is_shared(array, name, axes) else chosen(array, rows) for name, array in samples.items()}


def _key(samples: SampleSet, axes: BatchAxes, row: int) -> tuple[Any, ...]:
    found: list[Any] = []
    for name, array in samples.items():
        if not isinstance(array, np.ndarray):
            found.append(array[row].shape)
        elif axes.inputs.get(name) is None and not is_shared(array, name, axes) and not _is_one(array):
            value = np.asarray(array[row])
            found.append(value.tobytes() if value.nbytes <= _COMPARED_BYTES and value.dtype != object else b"")
    return tuple(found)


def _is_one(array: Array) -> bool:
    """Whether all samples are the same memory."""
    return array.strides[:1] == (0,)


def calls(samples: SampleSet, axes: BatchAxes, size: int) -> Iterator[dict[str, Array]]:
    """What each call is fed, in the order of the samples: at most ``size`` of them stacked along each batch axis.

    A fixed batch has its own size, and leaves out an incomplete last one.
    """
    for part in parts(samples, axes, size):
        yield call(samples, axes, part)


def call(samples: SampleSet, axes: BatchAxes, part: range) -> dict[str, Array]:
    """The samples of one of :func:`parts`, as the model takes them."""
    return {name: _taken(array, name, axes, part) for name, array in samples.items()}


def like(samples: SampleSet, axes: BatchAxes, start: int, size: int) -> list[int]:
    """``size`` samples that one call can take: those from ``start`` on that are like it, going round at the end.

    As many times the same where there are fewer. Raises BadCalibrationData for more than one where nothing can be
    stacked.
    """
    if size > 1 and run_alone(samples, axes):
        raise BadCalibrationData("The model takes one sample a call: it has no batch axis.", "Use batch 1.")
    count = count_of(samples, axes)
    wanted = _key(samples, axes, start % count)
    around = ((start + step) % count for step in range(count))
    found = list(itertools.islice((row for row in around if _key(samples, axes, row) == wanted), size))
    return list(itertools.islice(itertools.cycle(found), size))


def stacked(samples: SampleSet, axes: BatchAxes, rows: Sequence[int]) -> dict[str, Array]:
    """One call of ``rows``, which :func:`like` or :func:`parts` found to fit together."""
    picked = np.asarray(rows, np.int64)
    few = {name: array if is_shared(array, name, axes) else chosen(array, picked) for name, array in samples.items()}
    return call(few, axes, range(len(rows)))


def parts(samples: SampleSet, axes: BatchAxes, size: int) -> Iterator[range]:
    """The samples of each of :func:`calls`.

    One alone where its length is another than its neighbours', where an input without a batch axis changes, and where
    each sample is a call of its own.
    """
    count = count_of(samples, axes)
    if axes.fixed is not None and axes.fixed > 1 and not run_alone(samples, axes):
        whole = count - count % axes.fixed if count >= axes.fixed else count
        for start in range(0, whole, axes.fixed):
            part = range(start, min(start + axes.fixed, count))
            for name, array in samples.items():
                if _same_until(array, name, axes, part.start, part.stop) != part.stop:
                    raise BadCalibrationData(
                        f"The model takes {axes.fixed} samples at a time, and '{name}' changes from one to the next.",
                        "Give each sample as a whole call: one axis more for every input, the first counting calls.",
                    )
            yield part
        return
    size = 1 if axes.fixed is not None or run_alone(samples, axes) else max(size, 1)
    start = 0
    while start < count:
        stop = min(start + size, count)
        for name, array in samples.items():
            stop = _same_until(array, name, axes, start, stop)
        yield range(start, stop)
        start = stop


def run_alone(samples: SampleSet, axes: BatchAxes) -> bool:
    """Whether nothing can be stacked: no input has a batch axis, or a sample brings its own."""
    return all(axes.inputs.get(name) is None for name in samples) or any(
        _brings_its_own(array, name, axes) for name, array in samples.items()
    )


def _brings_its_own(array: SampleArray, name: str, axes: BatchAxes) -> bool:
    """Whether each sample of an input with a batch axis has that axis itself."""
    shape = axes.shapes.get(name)
    if axes.inputs.get(name) is None or shape is None or not len(array):
        return False
    return array[0].ndim == len(shape)


def _same_until(array: SampleArray, name: str, axes: BatchAxes, start: int, stop: int) -> int:
    """The end of the samples from ``start`` on, ``stop`` at most, that one call can take."""
    if is_shared(array, name, axes):
        return stop
    if axes.inputs.get(name) is not None:
        if isinstance(array, np.ndarray):
            return stop
        shape = array[start].shape
        return next((index for index in range(start + 1, stop) if array[index].shape != shape), stop)
    if isinstance(array, np.ndarray) and _is_one(array):
        return stop
    first = array[start]
    return next((index for index in range(start + 1, stop) if not _equal(array[index], first)), stop)


def _equal(a: Array, b: Array) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


def _taken(array: SampleArray, name: str, axes: BatchAxes, part: range) -> Array:
    if is_shared(array, name, axes):
        return np.ascontiguousarray(array) if np.ndim(array) else np.asarray(array)
    axis = axes.inputs.get(name)
    if axis is None or _brings_its_own(array, name, axes):
        value = np.asarray(array[part.start])
        return np.ascontiguousarray(value) if value.ndim else value
    if not isinstance(array, np.ndarray):
        return np.stack([array[index] for index in part], axis=axis)
    chosen = array[part.start : part.stop]
    return np.ascontiguousarray(np.moveaxis(chosen, 0, axis) if axis else chosen)

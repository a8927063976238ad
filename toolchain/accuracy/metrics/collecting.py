"""From the calls of a model to what a metric takes of each sample."""

from collections.abc import Mapping

import numpy as np

from toolchain.accuracy import targets as of_samples
from toolchain.accuracy.metrics.metric import Array, Metric, Rows, Targets, joined
from toolchain.accuracy.output_values import Call, Calls, lifted, parts
from toolchain.errors import BadUsage


def rows_of(metric: Metric, calls: Calls, targets: Targets, axes: Mapping[str, int | None] | None) -> Rows:
    """What each sample contributes to ``metric``; one call is looked at at a time.

    ``axes`` is the batch axis of each output, the first without them; a call in which none has one is one sample.
    BadUsage where there are not as many samples as ``targets``, and for what the metric does not fit.
    """
    found, start, total = [], 0, of_samples.count(targets)
    for call in calls:
        outputs, count = samples_first(call, axes)
        if count:
            wanted = of_samples.taken(targets, slice(start, start + count))
            if of_samples.count(wanted) < count:
                break
            found.append(metric.rows(outputs, wanted))
        start += count
    if start != total or not found:
        given = sum(samples_first(call, axes)[1] for call in calls)
        raise BadUsage(
            f"There are {total:,} labels, and the model gave answers for {given:,} samples.",
            "Give each sample one label; leave the labels out for a model whose outputs are not of samples.",
        )
    return joined(found)


def samples_first(call: Call, axes: Mapping[str, int | None] | None) -> tuple[dict[str, Array], int]:
    """(Each output with its samples on axis 0, how many there are); what is of no sample is left out."""
    with_axis, without = {}, {}
    for name, value in call.items():
        axis = 0 if axes is None else axes.get(name)
        for part, _, array in parts(name, value):
            if axis is None or axis >= array.ndim:
                without[part] = lifted(array, None)
            else:
                with_axis[part] = lifted(array, axis)
    if not with_axis:
        return without, 1
    counts = {len(array) for array in with_axis.values()}
    count = max(counts)
    alike = {name: array for name, array in {**with_axis, **without}.items() if len(array) == count}
    return {name: np.asarray(array) for name, array in alike.items()}, count

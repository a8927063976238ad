"""Outputs whose channels are so unlike that one scale for all of them rounds the smaller ones away.

A Conv whose first output channel holds pixels and whose last a chance, a Mul by the sizes of anchors: the model's user
reads each channel by itself. What makes such an output stays in float back to its product, whose weights and input
are int8 all the same.
"""

from collections.abc import Mapping

import numpy as np
import onnx

from exporters.calibration.channel_spread import least_variances
from exporters.calibration.data import Samples
from exporters.calibration.thresholds import Range
from exporters.int8 import operators
from exporters.int8.placement import Placement, Wiring

_STEPS = 255
_LEAST = 100.0
"""20 dB: how often a channel's variance must hold the error of rounding, a twelfth of a step squared."""
_INHERITING = (*operators.ACTIVATIONS, *operators.FOLLOWING, *operators.PARTING)


def unrounded(
    model: onnx.ModelProto, samples: Samples, place: Placement, ranges: Mapping[str, Range], *, memory_budget: int
) -> frozenset[str]:
    """The tensors of ``place`` to leave as they are made, by what is seen of them on ``samples``."""
    wiring = place.wiring
    candidates = [name for name in _behind_products(wiring) if name in place.rounded or name in place.merged]
    if not candidates:
        return frozenset()
    variances = least_variances(model, samples, candidates, memory_budget=memory_budget)
    unlike = {name for name, least in variances.items() if _is_lost(least, ranges.get(place.rounded.get(name, name)))}
    found: set[str] = set()
    pending = [(name, False) for name in sorted(wiring.outputs)]
    while pending:
        name, inherits = pending.pop()
        if name not in wiring.activations or name in found or not (inherits or name in unlike):
            continue
        maker = wiring.makers.get(name)
        if maker is None:
            continue
        found.add(name)
        if maker.op_type not in operators.WEIGHTED and operators.is_known(maker):
            pending += [(read, maker.op_type in _INHERITING) for read, _ in wiring.made_for(maker)]
    return frozenset(found)


def _behind_products(wiring: Wiring) -> list[str]:
    """The outputs and what lies between them and the products that they come from."""
    found: dict[str, None] = {}
    pending = sorted(wiring.outputs)
    while pending:
        name = pending.pop()
        if name in found or name not in wiring.activations:
            continue
        found[name] = None
        maker = wiring.makers.get(name)
        if maker is not None and maker.op_type not in operators.WEIGHTED and operators.is_known(maker):
            pending += [read for read, _ in wiring.made_for(maker)]
    return list(found)


def _is_lost(variance: float, covered: Range | None) -> bool:
    if covered is None:
        return False
    step = (covered.high - covered.low) / _STEPS
    return bool(np.isfinite(step)) and variance < _LEAST * step**2 / 12

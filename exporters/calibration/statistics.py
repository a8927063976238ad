"""Calibration: what each activation of a model does on real data, in constant memory and one pass."""

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from exporters.batch_axes import BatchAxes
from exporters.calibration import activations, taps
from exporters.calibration import cache as statistics_cache
from exporters.calibration.activations import DEFAULT_MEMORY_BUDGET, Fold
from exporters.calibration.data import Samples
from exporters.calibration.histogram import Histogram
from exporters.calibration.thresholds import DEFAULT_METHOD, DEFAULT_PERCENTILE, Method, Range, range_of
from exporters.feeds import count_of


@dataclass(frozen=True)
class Statistics:
    """What was seen of every measured tensor, and which others follow from it."""

    seen: dict[str, Histogram]
    taps: taps.Taps
    samples: int
    from_cache: bool = False
    _known: dict[tuple[str, Method, float, bool], Range] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def ranges(
        self,
        *,
        method: Method = DEFAULT_METHOD,
        percentile: float = DEFAULT_PERCENTILE,
        symmetric: bool = False,
        methods: Mapping[str, Method] | None = None,
    ) -> dict[str, Range]:
        """The range of every fp32 activation of the graph: by ``method``, or by that which ``methods`` give it.

        What was seen empty, constant or boundless has none: any would be made up.
        """
        own = methods or {}
        found = {
            name: self._range_of(name, own.get(name, method), percentile, symmetric)
            for name, each in self.seen.items()
            if not each.fault
        }
        found |= {name: Range(-1.0 if symmetric else 0.0, 1.0) for name in self.taps.bounded}
        return found | {name: found[root] for name, root in self.taps.same_as.items() if root in found}

    def _range_of(self, tensor: str, method: Method, percentile: float, symmetric: bool) -> Range:
        """Looked for once: a search asks for the same ranges at each of its trials."""
        asked = tensor, method, percentile, symmetric
        if asked not in self._known:
            self._known[asked] = range_of(
                self.seen[tensor], method=method, percentile=percentile, symmetric=symmetric
            )  # fmt: skip
        return self._known[asked]

    def fault_of(self, tensor: str) -> str:
        """Why ``tensor`` has no range, as the end of a sentence; empty where it has one."""
        seen = self.seen.get(self.taps.same_as.get(tensor, tensor))
        return "was not looked at" if seen is None else seen.fault


def collect(
    model: onnx.ModelProto,
    samples: Samples,
    *,
    data_sha256: str,
    in_float: Collection[str] = (),
    cache: Path | None = None,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
    fold: Fold = activations.fold,
    advance: Callable[[int], None] = lambda count: None,
) -> Statistics:
    """Statistics of ``model`` (shapes inferred) over all ``samples``; nodes ``in_float`` want none of their own.

    With ``cache``, a folder, they are looked up there first, under a digest of the graph, its weights, the data and
    the tools' versions, and kept there afterwards: no name decides, so a changed weight is a miss. ``fold`` looks.
    """
    wanted = taps.of(model, in_float)
    count = count_of(samples, BatchAxes.of_inputs(model))
    name = statistics_cache.key(model, data_sha256=data_sha256, tensors=wanted.measured) if cache else ""
    if cache and (kept := statistics_cache.load(cache, name)) is not None:
        advance(count)
        return Statistics(kept, wanted, count, from_cache=True)
    seen = fold(model, samples, tensors=wanted.measured, make=Histogram, memory_budget=memory_budget, advance=advance)
    if cache:
        with contextlib.suppress(OSError):  # a read-only disk costs the next call its time
            statistics_cache.save(cache, name, seen)
    return Statistics(seen, wanted, count)

"""What the graph of a benchmarked row says of its outputs; nothing of a model that is no file."""

import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from exporters import onnx_file
from exporters.batch_axes import BatchAxes
from exporters.errors import BadModelFile
from toolchain.accuracy import output_kinds
from toolchain.accuracy.output_kinds import Kind
from toolchain.bench.judgement import Outputs
from toolchain.bench.record import Row


@dataclass(frozen=True, kw_only=True)
class OutputGraph:
    """The kind and the batch axis of each output by its name."""

    kinds: Mapping[str, Kind] = field(default_factory=dict)
    axes: Mapping[str, int | None] = field(default_factory=dict)

    @staticmethod
    def of(*rows: Row) -> "OutputGraph":
        """Of the first of ``rows`` that is an ONNX file: a contestant from elsewhere may have another kind."""
        for row in rows:
            path = Path(row.candidate.model)
            if row.candidate.runtime == "ort" and path.is_file():
                with contextlib.suppress(BadModelFile):
                    return _read(path, path.stat().st_mtime_ns)
        return OutputGraph()

    def named(self, calls: Outputs) -> "OutputGraph":
        """Under the names that ``calls`` have, place by place where they are others."""
        names, own = list(calls[0]) if calls else [], list(self.kinds)
        if sorted(names) == sorted(own) or len(names) != len(own):
            return self
        return OutputGraph(
            kinds=dict(zip(names, self.kinds.values(), strict=True)),
            axes=dict(zip(names, (self.axes.get(name) for name in own), strict=True)),
        )

    def axes_of(self, calls: Outputs, samples: int) -> dict[str, int | None]:
        """The axis of each output of ``calls`` that counts samples.

        Of an output of which the graph does not tell, the first where its rows are as many as the samples: shape
        inference ends at operators that it does not know.
        """
        found: dict[str, int | None] = {}
        for name in calls[0] if calls else ():
            lengths = [len(call[name]) for call in calls if isinstance(call[name], np.ndarray) and call[name].ndim]
            measured = 0 if len(lengths) == len(calls) and sum(lengths) == samples else None
            told = self.axes.get(name)
            found[name] = measured if told is None else told
        return found


@functools.lru_cache(maxsize=16)
def _read(path: Path, changed_ns: int) -> OutputGraph:
    model = onnx_file.read(path)
    return OutputGraph(kinds=output_kinds.of(model), axes=BatchAxes.of(model).outputs)

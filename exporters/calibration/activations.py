"""Streams samples through a graph and folds each activation at once: one batch alive at a time on each thread."""

import contextlib
import math
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as pybind

from exporters import feeds, onnx_file
from exporters.batch_axes import BatchAxes
from exporters.calibration.data import Samples
from exporters.errors import NotConvertible
from exporters.library_output import silence_onnxruntime
from exporters.processors import usable_cores

silence_onnxruntime()

DEFAULT_MEMORY_BUDGET = 2 * 10**9
_BATCH_BYTES = 4_000_000  # activations that stay in the cache between the graph that makes them and the fold
_MAX_BATCH = 64
_PROBED_AT_ONCE = 16  # tensors of unknown shape
_SESSION_ERRORS = (
    pybind.Fail, pybind.InvalidGraph, pybind.InvalidArgument, pybind.NotImplemented, pybind.RuntimeException,
)  # fmt: skip
Array = npt.NDArray[Any]


class Accumulator(Protocol):
    """What is kept of one tensor. Its size does not grow."""

    def add(self, values: Array, *, name: str) -> None:
        """Take in what one call made of it: at least one axis and one element, of another shape at each call."""

    def merge(self, other: Any) -> None:
        """Take in what another of the same class has seen."""


A = TypeVar("A", bound=Accumulator)


class Fold(Protocol):
    """:func:`fold`, or one that gives the same, to the bit, and has others do the parts of it."""

    def __call__(
        self,
        model: onnx.ModelProto,
        samples: Samples,
        *,
        tensors: Sequence[str],
        make: Callable[[], A],
        memory_budget: int = DEFAULT_MEMORY_BUDGET,
        advance: Callable[[int], None] = lambda count: None,
    ) -> dict[str, A]: ...


def fold(
    model: onnx.ModelProto,
    samples: Samples,
    *,
    tensors: Sequence[str],
    make: Callable[[], A],
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, A]:
    """Tensor name -> what an accumulator of ``make`` kept of it over all ``samples``.

    Every core runs single-thread inferences of one shared session: batch by batch, results in turns, nothing held.
    Tensors that together would not fit ``memory_budget`` bytes are looked at in groups, one pass each.
    ``advance`` hears how many samples are done. A model of fixed batch leaves an incomplete last one out. What is
    empty, or no tensor, is not taken in: its accumulator stays as it was made.
    """
    work = planned(model, samples, tensors=tensors, make=make, memory_budget=memory_budget)
    kept: dict[str, A] = {}
    for index, one in enumerate(work.passes):
        kept |= _on_all_cores(work, one, advance if index == 0 else lambda count: None)
    return kept


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One way through all samples: ``outputs`` of the graph, and some of its ``inputs``, are looked at.

    ``parts`` are the samples of each call. A call of others may round its last bit otherwise: whoever divides a pass
    hands out whole parts, and then it matters neither who runs which nor in which order they are merged.
    """

    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    parts: tuple[range, ...]


@dataclass(frozen=True, kw_only=True)
class Work(Generic[A]):
    """All that :func:`fold` does, to be done in pieces, here or elsewhere."""

    model: onnx.ModelProto
    samples: Samples
    axes: BatchAxes
    make: Callable[[], A]
    passes: tuple[Pass, ...]

    def session(self, one: Pass) -> onnxruntime.InferenceSession | None:
        """A single-thread session for ``one``; none where it looks at inputs alone."""
        return open_session(tapped(self.model, one.outputs)) if one.outputs else None

    def done(
        self,
        one: Pass,
        parts: Iterable[range],
        session: onnxruntime.InferenceSession | None,
        advance: Callable[[int], None] = lambda count: None,
    ) -> dict[str, A]:
        """What accumulators keep of ``parts``, one call after the other."""
        kept = {name: self.make() for name in (*one.inputs, *one.outputs)}
        for part in parts:
            call = feeds.call(self.samples, self.axes, part)
            for name in one.inputs:
                _take(kept[name], call[name], name)
            if session is not None:
                found = run(session, one.outputs, call)
                for name in one.outputs:
                    _take(kept[name], found.pop(0), name)
            advance(len(part))
        return kept

    def merged(self, one: Pass, found: Iterable[dict[str, A]]) -> dict[str, A]:
        """What several have kept of parts of ``one``, in one; theirs stays as it is."""
        kept = {name: self.make() for name in (*one.inputs, *one.outputs)}
        for other in found:
            for name, accumulator in kept.items():
                accumulator.merge(other[name])
        return kept


def planned(
    model: onnx.ModelProto,
    samples: Samples,
    *,
    tensors: Sequence[str],
    make: Callable[[], A],
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> Work[A]:
    """The passes that :func:`fold` makes with these arguments on this machine."""
    axes = BatchAxes.of_inputs(model)
    samples = feeds.in_like_order(samples, axes)
    inputs = {value.name for value in model.graph.input}
    wanted = [name for name in tensors if name not in inputs]
    given = [name for name in tensors if name in inputs]
    workers = usable_cores()
    sizes = _bytes_per_sample(model, samples, wanted, axes) if wanted else {}
    groups = _groups(sizes, memory_budget // workers // (axes.fixed or 1)) or [[]]
    passes = []
    for index, group in enumerate(groups):
        batch = axes.fixed or _batch(sum(sizes[name] for name in group), memory_budget // workers)
        parts = tuple(feeds.parts(samples, axes, batch))
        passes.append(Pass(outputs=tuple(group), inputs=tuple(given if index == 0 else ()), parts=parts))
    return Work(model=model, samples=samples, axes=axes, make=make, passes=tuple(passes))


def tapped(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """A copy of ``model`` whose outputs are ``tensors``, of the types that the graph says, if it says them."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {value.name: value for value in (*model.graph.value_info, *model.graph.output)}
    if tensors:
        del copy.graph.output[:]
    for name in tensors:
        added = copy.graph.output.add()
        added.name = name
        if name in known and known[name].type.HasField("tensor_type"):
            added.type.tensor_type.elem_type = known[name].type.tensor_type.elem_type
    return copy


def open_session(model: onnx.ModelProto, *, threads: int = 1) -> onnxruntime.InferenceSession:
    """A CPU session of ``model``, in which int8 versions compute as on a CPU with VNNI or an Arm where that can be.

    An x86 without VNNI saturates pairs of products unless it is told not to, and so ONNX Runtime 1.31 cannot open a
    model in which two products share a weight.
    """
    with tempfile.TemporaryDirectory(prefix="nnx-tapped-") as folder:
        path = Path(folder) / "tapped.onnx"
        onnx_file.write(model, path)
        with contextlib.suppress(*_SESSION_ERRORS):
            return _session(path, threads, precise=True)
        try:
            return _session(path, threads, precise=False)
        except _SESSION_ERRORS as error:
            raise NotConvertible(
                f"ONNX Runtime cannot run the model: {onnx_file.one_line(error)}.",
                "Register custom operators, or export the model without them.",
            ) from error


def _session(path: Path, threads: int, *, precise: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.x64quantprecision", str(int(precise)))
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(
    session: onnxruntime.InferenceSession, outputs: Sequence[str] | None, feeds: Mapping[str, Array]
) -> list[Array]:
    """The named outputs, or all; raise NotConvertible when ONNX Runtime fails."""
    try:
        found: list[Array] = session.run(None if outputs is None else list(outputs), dict(feeds))
    except _SESSION_ERRORS as error:
        raise NotConvertible(
            f"ONNX Runtime failed while it ran the model: {onnx_file.one_line(error)}.",
            "Check the model and the samples.",
        ) from error
    return found


def _on_all_cores(work: Work[A], one: Pass, advance: Callable[[int], None]) -> dict[str, A]:
    session, parts = work.session(one), iter(one.parts)
    lock = threading.Lock()
    failures: list[BaseException] = []
    results: list[dict[str, A]] = []

    def next_part() -> Iterator[range]:
        while not failures:
            with lock:
                part = next(parts, None)
            if part is None:
                return
            yield part

    def tell(count: int) -> None:
        with lock:
            advance(count)

    def turn() -> None:
        try:
            results.append(work.done(one, next_part(), session, tell))
        except Exception as error:  # noqa: BLE001 - carried to the caller's thread and raised there
            failures.append(error)

    threads = [threading.Thread(target=turn, daemon=True) for _ in range(usable_cores())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return work.merged(one, results)


def _take(accumulator: Accumulator, value: object, name: str) -> None:
    """Hand on a tensor that holds anything: not an optional that is absent, nor a sequence."""
    if isinstance(value, np.ndarray) and value.size:
        accumulator.add(np.atleast_1d(value), name=name)


def _bytes_per_sample(
    model: onnx.ModelProto, samples: Samples, tensors: Sequence[str], axes: BatchAxes
) -> dict[str, int]:
    """From the shapes where they are known, from running one sample (or one fixed batch) where they are not."""
    known = {value.name: value.type.tensor_type for value in (*model.graph.value_info, *model.graph.output)}
    sizes: dict[str, int] = {}
    for name in tensors:
        dims = known[name].shape.dim if name in known and known[name].HasField("shape") else []
        if dims and all(dim.dim_value for dim in dims[1:]):
            sizes[name] = 4 * math.prod(dim.dim_value or 1 for dim in dims) // (axes.fixed or 1)
    unknown = [name for name in tensors if name not in sizes]
    part = next(feeds.parts(samples, axes, 1))
    for start in range(0, len(unknown), _PROBED_AT_ONCE):
        group = unknown[start : start + _PROBED_AT_ONCE]
        found = run(open_session(tapped(model, group)), group, feeds.call(samples, axes, part))
        sizes |= {name: getattr(array, "nbytes", 0) // len(part) for name, array in zip(group, found, strict=True)}
    return {name: sizes[name] for name in tensors}


def _groups(sizes: Mapping[str, int], budget: int) -> list[list[str]]:
    """Neighbours together as long as they fit ``budget`` bytes; a tensor beyond it stands alone."""
    groups: list[list[str]] = []
    filled = 0
    for name, size in sizes.items():
        if not groups or filled + size > budget:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    return groups


def _batch(bytes_per_sample: int, budget: int) -> int:
    return max(1, min(_MAX_BATCH, min(_BATCH_BYTES, budget) // max(bytes_per_sample, 1)))

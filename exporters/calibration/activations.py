"""Streams samples through a graph and folds each activation at once: one batch alive at a time on each thread."""

import contextlib
import math
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

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
    axes = BatchAxes.of_inputs(model)
    samples = feeds.in_like_order(samples, axes)
    inputs = {value.name for value in model.graph.input}
    wanted = [name for name in tensors if name not in inputs]
    given = [name for name in tensors if name in inputs]
    workers = usable_cores()
    sizes = _bytes_per_sample(model, samples, wanted, axes) if wanted else {}
    groups = _groups(sizes, memory_budget // workers // (axes.fixed or 1)) or [[]]
    kept: dict[str, A] = {}
    for index, group in enumerate(groups):
        batch = axes.fixed or _batch(sum(sizes[name] for name in group), memory_budget // workers)
        kept |= _pass(
            model, samples, outputs=group, inputs=given if index == 0 else [], make=make, axes=axes,
            batch=batch, workers=workers, advance=advance if index == 0 else lambda count: None,
        )  # fmt: skip
    return kept


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


def _pass(
    model: onnx.ModelProto,
    samples: Samples,
    *,
    outputs: Sequence[str],
    inputs: Sequence[str],
    make: Callable[[], A],
    axes: BatchAxes,
    batch: int,
    workers: int,
    advance: Callable[[int], None],
) -> dict[str, A]:
    session = open_session(tapped(model, outputs)) if outputs else None
    parts = feeds.parts(samples, axes, batch)
    lock = threading.Lock()
    failures: list[BaseException] = []
    results = [{name: make() for name in (*inputs, *outputs)} for _ in range(workers)]

    def work(kept: dict[str, A]) -> None:
        try:
            while not failures:
                with lock:
                    part = next(parts, None)
                if part is None:
                    return
                call = feeds.call(samples, axes, part)
                for name in inputs:
                    _take(kept[name], call[name], name)
                if session is not None:
                    found = run(session, outputs, call)
                    for name in outputs:
                        _take(kept[name], found.pop(0), name)
                with lock:
                    advance(len(part))
        except Exception as error:  # noqa: BLE001 - carried to the caller's thread and raised there
            failures.append(error)

    threads = [threading.Thread(target=work, args=(kept,), daemon=True) for kept in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    for other in results[1:]:
        for name, accumulator in results[0].items():
            accumulator.merge(other[name])
    return results[0]


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

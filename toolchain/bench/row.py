"""The job of a benchmark worker: hold one runtime, run it when told, and report raw samples."""

import gc
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters import feeds
from exporters.batch_axes import BatchAxes
from runtimes.base import Runtime, TensorSpec
from runtimes.registry import provider_named
from toolchain.accuracy import calls_file
from toolchain.bench import profile as bench_profile
from toolchain.bench import samples_file
from toolchain.machine import memory_limit

Call = Callable[[], object]


def open_job(**spec: Any) -> "BenchRow":
    return BenchRow(**spec)


class BenchRow:
    """One row of the table.

    ``inputs`` are samples as :func:`samples_file.write` put them, ``axes`` the fields of their
    :class:`~exporters.batch_axes.BatchAxes`.
    """

    def __init__(
        self,
        *,
        runtime: str,
        model: str,
        precision: str,
        weights: str | None,
        outputs: Sequence[str],
        provider: str,
        options: dict[str, str],
        batch: int,
        threads: int,
        concurrency: int,
        copies: bool,
        inputs: dict[str, Any],
        axes: dict[str, Any],
    ) -> None:
        self._samples, self._axes = samples_file.mapped(inputs), BatchAxes(**axes)
        self._model, self._precision = model, precision
        self._is_file, self._compiled = runtime == "ort", runtime == "compiled"
        self._batch, self._threads, self._options = batch, threads, tuple(options.items())
        self._provider = provider_named(provider)
        if self._provider.name == "cpu" and not self._compiled:  # the others reserve more than they use
            memory_limit.set_now()
        self._runtime = self._build(runtime, model, weights, outputs)
        started = time.perf_counter_ns()
        self._runtime.open()
        self._load_ms = (time.perf_counter_ns() - started) / 1e6
        self._calls: list[Call] = [
            self._runtime.timed(self._feeds(stream * batch), copies=copies) for stream in range(concurrency)
        ]

    def start(self) -> dict[str, Any]:
        """Run once and say what opening and that first run took; compilation happens here."""
        started = time.perf_counter_ns()
        self._calls[0]()
        return {
            "load_ms": self._load_ms,
            "first_run_ms": (time.perf_counter_ns() - started) / 1e6,
            "nodes": dict(self._runtime.placement().nodes),
            "facts": self._runtime.facts(),
            "shapes": {name: list(array.shape) for name, array in self._feeds(0).items()},
        }

    def turn(self, *, min_runs: int, most_kept: int, seconds: float, warm_up_s: float) -> dict[str, Any]:
        """Warm up, then run until ``seconds`` are over and ``min_runs`` are done, in every stream.

        Returns ``runs_ms``, at most ``most_kept`` latencies evenly spaced over all, the number of ``runs``, and the
        ``seconds`` that they took together.
        """
        gc.collect()
        gc.disable()  # a collection inside the clock would be Python's, not the model's
        try:
            _repeated(self._calls, min_runs=0, seconds=warm_up_s)
            started = time.perf_counter_ns()
            samples = _repeated(self._calls, min_runs=min_runs, seconds=seconds)
            spent = time.perf_counter_ns() - started
        finally:
            gc.enable()
        step = max(1, -(-len(samples) // most_kept))
        return {"runs_ms": [each / 1e6 for each in samples[::step]], "runs": len(samples), "seconds": spent / 1e9}

    def memory(self) -> dict[str, int | None]:
        """The most memory that this process has held, libraries included, and what it holds on a device of its own."""
        return {"peak_memory_bytes": _peak_memory(), "device_memory_bytes": self._runtime.device_memory_bytes()}

    def outputs(self, *, path: str) -> None:
        """Run all samples, batch by batch, and save each call's outputs as ``path``, in the model's order.

        What fills up a batch that is not whole is cut off again.
        """
        names = [spec.name for spec in self._runtime.outputs]
        writer = calls_file.Writer(Path(path))
        for rows, count in samples_file.calls(self._samples, self._axes, self._batch):
            results = self._runtime.bind(self._typed(feeds.stacked(self._samples, self._axes, rows)))()
            writer.add({name: self._copied(name, results[name], count) for name in names})
        writer.close()

    def _copied(self, name: str, value: Any, count: int) -> Any:
        """One call's output, for the runtime may write into it again; of a batch the ``count`` samples only."""
        axis = self._axes.outputs.get(name, 0)
        if isinstance(value, np.ndarray):
            stacked = axis is not None and value.ndim > axis and value.shape[axis] == self._batch
            return value.take(range(count), axis) if stacked and count < self._batch else value.copy()
        maps = isinstance(value, list) and len(value) == self._batch and all(isinstance(each, dict) for each in value)
        return value[:count] if maps else value

    def profile(self, *, latency_ms: float) -> dict[str, Any]:
        """Where the time goes, as :class:`toolchain.bench.record.Profile` in plain types; ``latency_ms`` is a run's."""
        call = self._feeds(0)
        if self._is_file:
            found = bench_profile.of_file(
                Path(self._model), call, precision=self._precision, provider=self._provider.ort_name,
                threads=self._threads, options=self._options, latency_ms=latency_ms,
            )  # fmt: skip
        else:
            found = bench_profile.of_call(
                self._runtime.bind(call), device=self._provider.torch_device or "cpu",
                compiled=self._compiled, latency_ms=latency_ms,
            )  # fmt: skip
        return asdict(found)

    def _feeds(self, start: int) -> dict[str, npt.NDArray[Any]]:
        """One whole batch from sample ``start`` on, going round to the first samples at the end."""
        rows = feeds.like(self._samples, self._axes, start, self._batch)
        return self._typed(feeds.stacked(self._samples, self._axes, rows))

    def _typed(self, call: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """In half precision where the model takes that."""
        halves = {spec.name for spec in self._runtime.inputs if spec.dtype == "float16"}
        return {name: array.astype("float16") if name in halves else array for name, array in call.items()}

    def _build(self, runtime: str, model: str, weights: str | None, outputs: Sequence[str]) -> Runtime:
        if runtime == "ort":
            from runtimes.ort import OrtRuntime

            return OrtRuntime(
                Path(model), provider=self._provider.ort_name, threads=self._threads, options=self._options
            )
        from exporters.input_tree import Input
        from exporters.torch_module import Flat
        from runtimes.torch_compiled import TorchCompiled
        from runtimes.torch_eager import TorchEager
        from toolchain.inputs.sources import recipe_named
        from toolchain.recipes.calling import Call
        from toolchain.training import given_weights

        module = recipe_named(model).model()
        if weights is not None:
            given_weights.load(module, given_weights.Weights(file=Path(weights)))
        names = list(self._samples)
        if (order := Call(module, names).order) is None:
            module = Flat(module, {name: Input(name) for name in names})
        inputs = [
            TensorSpec(name, str(self._samples[name][0].dtype), ("batch", *_lengths(self._samples[name])))
            for name in order or names
        ]
        kind = TorchCompiled if runtime == "compiled" else TorchEager
        return kind(
            module,
            inputs=inputs,
            outputs=[TensorSpec(name, "float32", ("batch", "scores")) for name in outputs],
            device=self._provider.torch_device or "cpu",
            threads=self._threads,
            options=self._options,
        )


def _lengths(samples: npt.NDArray[Any] | Sequence[npt.NDArray[Any]]) -> tuple[int | str, ...]:
    """Those of a sample's axes; "?" where they are not the same in all."""
    if isinstance(samples, np.ndarray):
        return samples.shape[1:]
    return tuple(
        lengths[0] if len(set(lengths)) == 1 else "?" for lengths in zip(*[each.shape for each in samples], strict=True)
    )


def _repeated(calls: list[Call], *, min_runs: int, seconds: float) -> list[int]:
    """Each run's nanoseconds; several calls run at once, each in a thread of its own, from the same moment on."""
    if len(calls) == 1:
        return _runs(calls[0], min_runs, seconds)
    results: list[list[int]] = [[] for _ in calls]
    errors: list[Exception] = []
    gate = threading.Barrier(len(calls))

    def stream(number: int) -> None:
        gate.wait()
        try:
            results[number] = _runs(calls[number], min_runs, seconds)
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits for this one
            errors.append(error)

    threads = [threading.Thread(target=stream, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [sample for samples in results for sample in samples]


def _runs(call: Call, min_runs: int, seconds: float) -> list[int]:
    clock = time.perf_counter_ns
    samples: list[int] = []
    end = clock() + int(seconds * 1e9)
    while len(samples) < min_runs or clock() < end:
        before = clock()
        call()
        samples.append(clock() - before)
    return samples


def _peak_memory() -> int | None:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), None)

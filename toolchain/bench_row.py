"""The job of a benchmark worker: hold one runtime, run it when told, and report raw samples."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtimes.base import Runtime, TensorSpec
from runtimes.registry import provider_named


def open_job(**spec: Any) -> "BenchRow":
    return BenchRow(**spec)


class BenchRow:
    """One row of the table. ``inputs`` maps input names to ``.npy`` files of samples ``(S, ...)``, mapped, not read."""

    def __init__(
        self,
        *,
        runtime: str,
        model: str,
        weights: str | None,
        output: str,
        provider: str,
        batch: int,
        threads: int,
        inputs: dict[str, str],
    ) -> None:
        self._samples: dict[str, npt.NDArray[np.generic]] = {
            name: np.load(path, mmap_mode="r") for name, path in inputs.items()
        }
        self._batch = batch
        self._provider = provider_named(provider)
        self._runtime = self._build(runtime, model, weights, output, threads)
        started = time.perf_counter_ns()
        self._runtime.open()
        self._load_ms = (time.perf_counter_ns() - started) / 1e6
        self._call = self._runtime.bind(self._feeds(0))

    def start(self) -> dict[str, Any]:
        """Run once and say what opening and that first run took; compilation happens here."""
        started = time.perf_counter_ns()
        self._call()
        return {
            "load_ms": self._load_ms,
            "first_run_ms": (time.perf_counter_ns() - started) / 1e6,
            "provider_share": self._runtime.placement().share(self._provider.ort_name),
        }

    def turn(self, *, min_runs: int, max_runs: int, seconds: float, warm_up_s: float) -> list[float]:
        """Warm up, then run until ``seconds`` are over and ``min_runs`` are done; each run's milliseconds."""
        call, clock = self._call, time.perf_counter_ns
        warm_until = clock() + int(warm_up_s * 1e9)
        while clock() < warm_until:
            call()
        samples: list[int] = []
        end = clock() + int(seconds * 1e9)
        while len(samples) < min_runs or (clock() < end and len(samples) < max_runs):
            before = clock()
            call()
            samples.append(clock() - before)
        return [sample / 1e6 for sample in samples]

    def peak_memory_bytes(self) -> int | None:
        """The most memory this process has held, libraries included."""
        try:
            status = Path("/proc/self/status").read_text(encoding="ascii")
        except OSError:
            return None
        return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), None)

    def outputs(self, *, path: str) -> None:
        """Run all samples, batch by batch, and save the first output ``(S, ...)`` as ``path``."""
        total = len(next(iter(self._samples.values())))
        first = self._runtime.outputs[0].name
        results = [self._runtime.bind(self._feeds(start))()[first].copy() for start in range(0, total, self._batch)]
        np.save(path, np.concatenate(results)[:total])

    def _feeds(self, start: int) -> dict[str, npt.NDArray[np.generic]]:
        """One whole batch from sample ``start`` on, going round to the first samples at the end."""
        feeds = {}
        for name, samples in self._samples.items():
            rows = np.arange(start, start + self._batch) % len(samples)
            array = np.ascontiguousarray(samples[rows])
            specs = {spec.name: spec.dtype for spec in self._runtime.inputs}
            feeds[name] = array.astype(specs[name]) if specs.get(name) == "float16" else array
        return feeds

    def _build(self, runtime: str, model: str, weights: str | None, output: str, threads: int) -> Runtime:
        if runtime == "ort":
            from runtimes.ort import OrtRuntime

            return OrtRuntime(Path(model), provider=self._provider.ort_name, threads=threads)
        from runtimes.torch_compiled import TorchCompiled
        from runtimes.torch_eager import TorchEager
        from toolchain.checkpoint import load_weights
        from toolchain.sources import recipe_named

        module = recipe_named(model).model()
        if weights is not None:
            load_weights(module, Path(weights))
        inputs = [
            TensorSpec(name, str(samples.dtype), ("batch", *samples.shape[1:]))
            for name, samples in self._samples.items()
        ]
        kind = TorchCompiled if runtime == "compiled" else TorchEager
        return kind(
            module,
            inputs=inputs,
            outputs=[TensorSpec(output, "float32", ("batch", "scores"))],
            device=self._provider.torch_device or "cpu",
            threads=threads,
        )

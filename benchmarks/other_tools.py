"""OpenVINO and NNCF, in an environment of their own (`make openvino`), asked over a pipe.

Both ends are here. :class:`OtherTool` starts this very file with the other environment's Python, which has neither
PyTorch nor nnx; there :func:`serve` answers as :mod:`toolchain.worker` does, so that an OpenVINO row takes its turn in
:mod:`toolchain.benchmark` beside the rest.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

PYTHON = Path(__file__).resolve().parent.parent / ".venv-openvino" / "bin" / "python"


class OtherTool:
    """A process in the other environment; a contestant as :mod:`toolchain.benchmark` knows them."""

    def __init__(self, job: str = "", spec: dict[str, Any] | None = None, *, threads: int = 2) -> None:
        if not PYTHON.exists():
            raise SystemExit("There is no environment with OpenVINO and NNCF: make it with `make openvino`.")
        self._spec = spec or {}
        self._process = subprocess.Popen(
            [PYTHON, Path(__file__).resolve(), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )

    def open(self) -> None:
        self.ask("open", **self._spec)

    def ask(self, operation: str, **arguments: Any) -> Any:
        """Give the turn to the process; raise JobFailed with what went wrong there."""
        from toolchain.turns import JobFailed

        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"op": operation, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise JobFailed("crash", f"OpenVINO's process ended with exit code {self._process.wait()}.", "Try again.")
        answer = json.loads(line)
        if "error" in answer:
            raise JobFailed("bug", answer["error"], f"Run {Path(__file__).name} alone.")
        return answer["result"]

    def close(self) -> None:
        self._process.communicate()

    def __enter__(self) -> "OtherTool":
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()


class OpenVino:
    """What the process can be asked; paths come as text, inputs as a map of names to ``.npy`` files."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def versions(self) -> dict[str, str]:
        from importlib.metadata import version

        return {name: version(name) for name in ("openvino", "nncf", "onnx", "numpy")}

    def quantize(
        self,
        *,
        model: str,
        inputs: dict[str, str],
        out: str,
        preset: str | None = None,
        bias_correction: str = "fast",
        estimator: str | None = None,
        overflow_fix: bool = True,
        channel_alignment: bool = False,
        transformer: bool = False,
    ) -> float:
        """Write NNCF's int8 version of the ``.onnx`` ``model`` to ``out``; return the seconds that it took.

        ``out`` ends in ``.xml`` for OpenVINO's form, or in ``.onnx`` for NNCF's own ONNX. Every sample is used.
        ``bias_correction`` is fast, accurate or off, ``estimator`` a name in NNCF's RangeEstimatorParametersSet.
        """
        import nncf
        import onnx
        import openvino
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        samples = _load(inputs)
        count = len(next(iter(samples.values())))
        feeds = [{name: array[row : row + 1] for name, array in samples.items()} for row in range(count)]
        as_onnx = out.endswith(".onnx")
        chosen: dict[str, Any] = {
            "disable_bias_correction": bias_correction == "off",
            "disable_channel_alignment": not channel_alignment,
        }
        if estimator:
            chosen["activations_range_estimator_params"] = getattr(RangeEstimatorParametersSet, estimator)
        if not overflow_fix:
            chosen["overflow_fix"] = nncf.OverflowFix.DISABLE
        started = time.perf_counter()
        quantized = nncf.quantize(
            # not Core.read_model, which keeps biases in a form in which NNCF does not correct them
            onnx.load(model) if as_onnx else openvino.convert_model(model),
            nncf.Dataset(feeds),
            preset=nncf.QuantizationPreset(preset) if preset else None,
            subset_size=count,
            fast_bias_correction=bias_correction != "accurate",
            model_type=nncf.ModelType.TRANSFORMER if transformer else None,
            advanced_parameters=nncf.AdvancedQuantizationParameters(**chosen),
        )
        seconds = time.perf_counter() - started
        if as_onnx:
            onnx.save(quantized, out)
        else:
            openvino.save_model(quantized, out, compress_to_fp16=False)
        return seconds

    def open(self, *, model: str, inputs: dict[str, str], batch: int, **ignored: Any) -> None:
        """Compile for latency on the wanted number of threads, at the fixed batch that a device would run."""
        import openvino

        core = openvino.Core()
        network = core.read_model(model)
        self._samples, self._batch = _load(inputs), batch
        started = time.perf_counter_ns()
        network.reshape({name: [batch, *array.shape[1:]] for name, array in self._samples.items()})
        compiled = core.compile_model(
            network, "CPU", {"INFERENCE_NUM_THREADS": self._threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        )
        self._load_ms = (time.perf_counter_ns() - started) / 1e6
        self._request = compiled.create_infer_request()
        self._feeds = self._batch_from(0)

    def start(self) -> dict[str, Any]:
        started = time.perf_counter_ns()
        self._call()
        return {"load_ms": self._load_ms, "first_run_ms": (time.perf_counter_ns() - started) / 1e6}

    def turn(self, *, min_runs: int, max_runs: int, seconds: float, warm_up_s: float) -> list[float]:
        """The same loop as that of :class:`toolchain.bench_row.BenchRow`."""
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

    def outputs(self, *, path: str) -> None:
        """Run all samples, batch by batch, and save the first output ``(S, ...)`` as ``path``."""
        total = len(next(iter(self._samples.values())))
        results = []
        for start in range(0, total, self._batch):
            self._feeds = self._batch_from(start)
            results.append(self._call().copy())
        np.save(path, np.concatenate(results)[:total])

    def peak_memory_bytes(self) -> int | None:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), None)

    def _call(self) -> Any:
        # inputs are not copied in, and the output is a view, as in the rows beside
        return self._request.infer(self._feeds, share_inputs=True, share_outputs=True)[0]

    def _batch_from(self, start: int) -> dict[str, Any]:
        rows = {name: np.arange(start, start + self._batch) % len(array) for name, array in self._samples.items()}
        return {name: np.ascontiguousarray(array[rows[name]]) for name, array in self._samples.items()}


def _load(inputs: dict[str, str]) -> dict[str, Any]:
    return {name: np.load(path, mmap_mode="r") for name, path in inputs.items()}


@contextlib.contextmanager
def _answers() -> Iterator[Any]:
    """The pipe for answers; whatever the libraries print goes to stderr instead."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as pipe:
        os.dup2(2, 1)
        yield pipe


def serve(threads: int) -> None:
    """Answer each line ``{"op": name, ...arguments}`` with ``{"result": ...}`` or ``{"error": text}``."""
    job = OpenVino(threads)
    with _answers() as pipe:
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = {"result": getattr(job, request.pop("op"))(**request)}
            except Exception as error:  # noqa: BLE001 - the edge of the process: the parent decides what it means
                answer = {"error": f"{type(error).__name__}: {error}".strip().splitlines()[0]}
            print(json.dumps(answer), file=pipe, flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]))

"""OpenVINO and NNCF, in an environment of their own (`make openvino`), asked over a pipe.

Both ends are here. :class:`OtherTool` starts this very file with the other environment's Python, which has neither
PyTorch nor nnx, so that an OpenVINO row takes its turn in :mod:`toolchain.bench.benchmark` beside the rest.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":  # the other environment's Python looks beside this file, not beside nnx
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.piped import Piped, PlainRow, serve

PYTHON = Path(__file__).resolve().parent.parent / ".venv-openvino" / "bin" / "python"


class OtherTool(Piped):
    """A process in the other environment; raises SystemExit where that is not made."""

    def __init__(self, job: str = "", spec: dict[str, Any] | None = None, *, threads: int = 2, **limits: Any) -> None:
        if not PYTHON.exists():
            raise SystemExit("There is no environment with OpenVINO and NNCF: make it with `make openvino`.")
        super().__init__([PYTHON, Path(__file__).resolve()], spec or {}, threads=threads)


class OpenVino(PlainRow):
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
        self._output = compiled.output(0).any_name
        self._request = compiled.create_infer_request()
        self._feeds = self._batch_from(0)

    def outputs(self, *, path: str) -> None:
        """Run all samples, batch by batch, and save each call's first output as ``path``, as nnx's own rows do."""
        from toolchain.accuracy import calls_file

        total = len(next(iter(self._samples.values())))
        calls = []
        for start in range(0, total, self._batch):
            self._feeds = self._batch_from(start)
            calls.append({self._output: self._call()[: total - start].copy()})
        calls_file.write(Path(path), calls)

    def _call(self) -> Any:
        # inputs are not copied in, and the output is a view, as in the rows beside
        return self._request.infer(self._feeds, share_inputs=True, share_outputs=True)[0]

    def _batch_from(self, start: int) -> dict[str, Any]:
        rows = {name: np.arange(start, start + self._batch) % len(array) for name, array in self._samples.items()}
        return {name: np.ascontiguousarray(array[rows[name]]) for name, array in self._samples.items()}


def _load(inputs: dict[str, str]) -> dict[str, Any]:
    return {name: np.load(path, mmap_mode="r") for name, path in inputs.items()}


if __name__ == "__main__":
    serve(OpenVino(int(sys.argv[1])))

"""Every quantizer that the benchmarks compare, called in one place: nnx's and ONNX Runtime's.

NNCF's is asked through :mod:`benchmarks.other_tools`.
"""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as pybind
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.shape_inference import quant_pre_process

from exporters import library_output
from exporters.calibration.statistics import collect
from exporters.errors import ExporterError
from exporters.int8 import dynamic as int8_dynamic
from exporters.int8 import static as int8_static
from exporters.int8 import targets
from exporters.model_file import ModelFile
from toolchain import machine
from toolchain.processes.turns import JobFailed

Samples = Mapping[str, npt.NDArray[np.generic]]

FAILURES = (
    ExporterError, JobFailed, ValueError, RuntimeError, AssertionError, KeyError, IndexError, AttributeError,
    onnx.shape_inference.InferenceError, onnx.checker.ValidationError, pybind.Fail, pybind.InvalidGraph,
    pybind.NotImplemented,
)  # fmt: skip
"""What the libraries raise when they cannot quantize or open a model; a tool that fails is a row that says so."""
_BATCH = 32
ORT_METHODS = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}


def int8_format() -> targets.Int8Format:
    """The format that nnx chooses on this machine."""
    # not toolchain.conversion.precisions's: that loads PyTorch, which would count as memory of the calibration
    facts = machine.describe()
    return targets.format_for(architecture=facts.architecture, isa=facts.isa)


def nnx_static(src: Path, dst: Path, samples: Samples) -> None:
    """nnx at its defaults on this machine."""
    int8_static.convert(ModelFile(src), dst, samples=samples, int8=int8_format())


def nnx_dynamic(src: Path, dst: Path) -> None:
    int8_dynamic.convert(ModelFile(src), dst, int8=int8_format())


def nnx_calibrate(ready: Path, samples: Samples) -> None:
    """Statistics of every activation and the ranges that follow, nothing kept; ``ready`` is pre-processed."""
    collect(onnx.load(ready), samples, data_sha256="").ranges()


def ort_calibrate(ready: Path, samples: Samples, method: str) -> None:
    """The same by ONNX Runtime, one sample at a time; ``ready`` is pre-processed."""
    with tempfile.TemporaryDirectory() as folder, library_output.quiet():
        calibrator = create_calibrator(
            ready, augmented_model_path=str(Path(folder) / "augmented.onnx"), calibrate_method=ORT_METHODS[method]
        )
        calibrator.collect_data(_OneByOne(samples))
        calibrator.compute_data()


def ort_defaults(src: Path, dst: Path, samples: Samples) -> None:
    """``quantize_static`` with nothing chosen but the data, as its documentation has it: pre-process, then quantize."""
    _ort_static(src, dst, samples, {})


def ort_static(src: Path, dst: Path, samples: Samples, *, method: str = "minmax", per_channel: bool = True) -> None:
    """``quantize_static`` in the format that is fast here, uint8 x int8, with ONNX Runtime's ranges."""
    chosen = {
        "per_channel": per_channel,
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QInt8,
        "calibrate_method": ORT_METHODS[method],
    }
    _ort_static(src, dst, samples, chosen)


def ort_pre_process(src: Path, dst: Path) -> None:
    """Shapes inferred, constants and BatchNorm folded: what calibration starts from."""
    with library_output.quiet():
        quant_pre_process(src, dst)


def _ort_static(src: Path, dst: Path, samples: Samples, chosen: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder, library_output.quiet():
        ready = Path(folder) / "ready.onnx"
        quant_pre_process(src, ready)
        quantize_static(ready, dst, _OneByOne(samples), **chosen)


def why(failure: Exception) -> str:
    """One line of what a tool said before it gave up."""
    return f"{type(failure).__name__}: {failure}".strip().splitlines()[0][:200]


def outputs(model: Path, inputs: Samples) -> npt.NDArray[np.generic]:
    """The first output of ``model`` for all ``inputs``, ``(S, ...)``, in ONNX Runtime on the CPU."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    count = len(next(iter(inputs.values())))
    return np.concatenate(
        [
            session.run(None, {name: array[row : row + _BATCH] for name, array in inputs.items()})[0]
            for row in range(0, count, _BATCH)
        ]
    )


class _OneByOne(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, samples: Samples) -> None:
        count = len(next(iter(samples.values())))
        self._rows: Iterator[dict[str, npt.NDArray[np.generic]]] = (
            {name: np.ascontiguousarray(array[row : row + 1]) for name, array in samples.items()}
            for row in range(count)
        )

    def get_next(self) -> dict[str, npt.NDArray[np.generic]] | None:
        return next(self._rows, None)

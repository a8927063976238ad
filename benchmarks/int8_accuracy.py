"""How much noise each quantizer adds, and what accuracy it costs, on unseen images: nnx, ONNX Runtime, NNCF.

    make int8-accuracy DATA=folder-of-cifar10

ResNet-18 with random weights, and the trained nets whose checkpoint lies in artifacts/cifar10 and artifacts/depthwise
(`nnx train cifar10 --data DIR`, `nnx train benchmarks/depthwise.py:recipe --data DIR`); one that is not there is left
out with a note. Everybody calibrates on the same 256 training images. NNCF's best settings are looked for: presets,
range estimators, bias corrections, in OpenVINO and as ONNX. Leaves int8_accuracy.json and .md in artifacts/benchmarks.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks import models, quantizers
from benchmarks.other_tools import OtherTool
from benchmarks.results import OUT, data_option, keep
from exporters import torch_onnx
from toolchain.accuracy.metrics import classes
from toolchain.bench.report import markdown_table
from toolchain.inputs.sources import recipe_named
from toolchain.recipes.rows import Rows
from toolchain.stats import sqnr_db
from toolchain.training import given_weights
from toolchain.training.given_weights import Weights

Array = npt.NDArray[np.generic]

TRAINED = {"cifar10": "cifar10", "depthwise": f"{Path(__file__).with_name('depthwise.py')}:recipe"}
_CALIBRATION, _TESTS = 256, 1024
_QUICK_CALIBRATION, _QUICK_TESTS = 16, 64
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Task:
    """An fp32 file, what to calibrate it on, what to test it on; ``labels`` ``(S,)`` where the net was trained."""

    name: str
    model: Path
    calibration: dict[str, Array]
    tests: dict[str, Array]
    labels: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """One quantizer on one task: the seconds it took, its noise against fp32, its top-1 accuracy, or why it failed."""

    tool: str
    seconds: float = 0.0
    sqnr_db: float | None = None
    accuracy: dict[str, float] | None = None
    failure: str = ""


Quantizer = Callable[[Task, Path], tuple[float, Array]]
"""Writes its int8 version below a folder; returns the seconds of that, and the version's outputs for the tests."""

ORT: dict[str, Callable[[Path, Path, dict[str, Array]], None]] = {
    "nnx": quantizers.nnx_static,
    "onnxruntime defaults": quantizers.ort_defaults,
    "onnxruntime minmax": quantizers.ort_static,
    "onnxruntime percentile": lambda src, dst, samples: quantizers.ort_static(src, dst, samples, method="percentile"),
}
# Its first layer keeps to 7 bits by default, for CPUs without VNNI: on any other that only adds noise.
_BEST = {"overflow_fix": False}
NNCF: dict[str, dict[str, Any]] = {
    "nncf openvino, defaults": {},
    **{
        f"nncf openvino, {preset}, {estimator or 'mean minmax'}, bias correction {correction}".lower(): {
            "preset": preset,
            "estimator": estimator,
            "bias_correction": correction,
            **_BEST,
        }
        for preset in ("performance", "mixed")
        for estimator in (None, "MINMAX", "HISTOGRAM")
        for correction in ("fast", "accurate", "off")
    },
    "nncf openvino, performance, channel alignment": {"channel_alignment": True, **_BEST},
    "nncf onnx, defaults": {"form": "onnx"},
    "nncf onnx, performance": {"form": "onnx", **_BEST},
    "nncf onnx, mixed": {"form": "onnx", "preset": "mixed", **_BEST},
}


def judge(task: Task, folder: Path) -> list[Result]:
    """Every quantizer on ``task``, fp32 itself first."""
    reference = quantizers.outputs(task.model, task.tests)
    results = [Result(tool="fp32", accuracy=_accuracy(reference, task))]
    with OtherTool() as nncf:
        tools: dict[str, Quantizer] = {name: _in_onnxruntime(quantize) for name, quantize in ORT.items()}
        tools |= {name: _in_nncf(nncf, **settings) for name, settings in NNCF.items()}
        for name, quantize in tools.items():
            print(f"{task.name}: {name}", file=sys.stderr)
            try:
                seconds, given = quantize(task, folder)
            except quantizers.FAILURES as failure:
                results.append(Result(tool=name, failure=quantizers.why(failure)))
                continue
            results.append(
                Result(
                    tool=name,
                    seconds=seconds,
                    sqnr_db=sqnr_db(reference, given),
                    accuracy=_accuracy(given, task),
                )
            )
    return results


def _in_onnxruntime(quantize: Callable[[Path, Path, dict[str, Array]], None]) -> Quantizer:
    def run(task: Task, folder: Path) -> tuple[float, Array]:
        started = time.perf_counter()
        quantize(task.model, folder / "int8.onnx", task.calibration)
        return time.perf_counter() - started, quantizers.outputs(folder / "int8.onnx", task.tests)

    return run


def _in_nncf(nncf: OtherTool, *, form: str = "openvino", **settings: Any) -> Quantizer:
    """NNCF's OpenVINO form runs in OpenVINO, its ONNX form in ONNX Runtime."""

    def run(task: Task, folder: Path) -> tuple[float, Array]:
        written = folder / ("nncf.xml" if form == "openvino" else "nncf.onnx")
        calibration = _saved(task.calibration, folder, "calibration")
        seconds = nncf.ask("quantize", model=str(task.model), inputs=calibration, out=str(written), **settings)
        if form == "onnx":
            return seconds, quantizers.outputs(written, task.tests)
        outputs = folder / "outputs.npz"
        nncf.ask("open", model=str(written), inputs=_saved(task.tests, folder, "tests"), batch=1)
        nncf.ask("outputs", path=str(outputs))
        with np.load(outputs) as arrays:
            return seconds, arrays["arr_0"]

    return run


def _saved(arrays: dict[str, Array], folder: Path, stem: str) -> dict[str, str]:
    paths = {name: folder / f"{stem}-{index}.npy" for index, name in enumerate(arrays)}
    for name, path in paths.items():
        if not path.exists():
            np.save(path, arrays[name])
    return {name: str(path) for name, path in paths.items()}


def _accuracy(scores: Array, task: Task) -> dict[str, float] | None:
    return asdict(classes.top1(scores, task.labels)) if task.labels is not None else None


def untrained_task(data: Path | None, folder: Path, counts: tuple[int, int]) -> Task:
    """ResNet-18 with random weights on images at 224."""
    return Task(
        name="resnet18",
        model=models.export("resnet18", folder),
        calibration=models.inputs("resnet18", counts[0], data=data),
        tests=models.inputs("resnet18", counts[1], data=data, split="test"),
    )


def trained_task(name: str, checkpoint_path: Path, data: Path, folder: Path, counts: tuple[int, int | None]) -> Task:
    """A recipe's net from its checkpoint, on its own data: ``counts`` training images, test images (None: all)."""
    recipe = recipe_named(TRAINED[name])
    module, images = recipe.model(), recipe.data(data).load()
    given_weights.load(module, Weights(file=checkpoint_path))
    rows = np.random.default_rng(_SEED).permutation(len(images.train))[: counts[0]]
    made = Rows(recipe, images)
    tests = np.asarray(made.arrays(images.test)[0][recipe.input_name])
    chosen = np.random.default_rng(_SEED).permutation(len(tests))[: counts[1]]
    path = folder / f"{name}.onnx"
    example = {recipe.input_name: torch.from_numpy(tests[:2])}
    torch_onnx.export(module, path, example_inputs=example, output_names=[recipe.output_name])
    return Task(
        name=name,
        model=path,
        calibration={key: np.asarray(array) for key, array in made.arrays(images.train, rows)[0].items()},
        tests={recipe.input_name: tests[chosen]},
        labels=images.test.targets[chosen],
    )


def table(name: str, results: list[Result]) -> str:
    rows = []
    for result in results:
        noise = "–" if result.sqnr_db is None else f"{result.sqnr_db:.2f}"
        share, top = result.accuracy, results[0].accuracy
        top1 = f"{share['estimate']:.2%} ({share['low']:.2%}–{share['high']:.2%})" if share else "–"
        lost = f"{100 * (top['estimate'] - share['estimate']):.2f}" if share and top else "–"
        rows.append([result.tool, result.failure or noise, top1, lost, f"{result.seconds:.1f}"])
    head = [name, "SQNR, dB", "top-1", "points lost", "seconds"]
    return markdown_table(head, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_option(parser)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="where trained recipes lie")
    parser.add_argument("--net", action="append", choices=["resnet18", *TRAINED], help="only this one; repeatable")
    parser.add_argument("--quick", action="store_true", help="a few images: does it work?")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    calibration = _QUICK_CALIBRATION if options.quick else _CALIBRATION
    few = _QUICK_TESTS if options.quick else None
    with OtherTool() as nncf:
        versions = nncf.ask("versions")
    found: dict[str, list[Result]] = {}
    tables = ""
    for name in options.net or ["resnet18", *TRAINED]:
        weights = options.artifacts / name / "checkpoint.pt"
        if name in TRAINED and not (weights.is_file() and options.data):
            print(f"{name} is left out: it needs {weights} (`nnx train`) and --data.", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            if name in TRAINED:
                task = trained_task(name, weights, options.data, folder, (calibration, few))
            else:
                task = untrained_task(options.data, folder, (calibration, few or _TESTS))
            found[name] = judge(task, folder)
        tables = "\n\n".join(table(done, results) for done, results in found.items())
        facts = {"calibration_images": calibration, "data": str(options.data or "noise"), "other_tools": versions}
        results = {done: [asdict(result) for result in each] for done, each in found.items()}
        keep(options.out / "int8_accuracy.json", {**facts, "nets": results}, tables)
    print(f"{tables}\n\nThe figures lie in {options.out}.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

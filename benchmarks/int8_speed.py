"""How fast each tool's int8 is: nnx, ONNX Runtime's defaults, OpenVINO with NNCF, beside PyTorch and ONNX Runtime fp32.

    make int8-speed DATA=folder-of-cifar10

Four nets, batch 1 and 32, 1 and 2 threads. Each row is a process of its own and they take turns, in another random
order each round, so a ratio compares what was measured side by side. Leaves int8_speed.json, with the raw latencies,
and int8_speed.md in artifacts/benchmarks. It takes about half an hour; --quick, with short rounds, a few minutes.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import models, quantizers
from benchmarks.other_tools import OtherTool
from benchmarks.results import OUT, data_option, keep
from exporters import torch_onnx
from exporters.atomic_file import sha256_of
from exporters.model_file import ModelFile
from toolchain.bench import benchmark, judging
from toolchain.bench.candidates import of_file
from toolchain.bench.effort import Effort
from toolchain.bench.group import Contestant
from toolchain.bench.record import Benchmark, Candidate, Row, Setting
from toolchain.bench.report import markdown_table
from toolchain.console import LiveProgress
from toolchain.conversion import settings_search
from toolchain.inputs.samples import Samples
from toolchain.processes.turns import Turn
from toolchain.stats import ratio_of_medians

EAGER, ORT_FP32, ORT_DEFAULTS, OPENVINO = "eager", "ort fp32", "ort quantize_static", "openvino nncf"
OPENVINO_OWN = "openvino nncf, opset 23"
NNX_STATIC, NNX_DYNAMIC = "nnx int8-static", "nnx int8-dynamic"
# dynamic int8 is for nets of matrix products: their convolutions it leaves in float
MATMUL_NETS = ("encoder", "sst2")
SETTINGS = [Setting(provider="cpu", batch=batch, threads=threads) for threads in (1, 2) for batch in (1, 32)]
QUICK = Effort(min_rounds=2, min_runs=2, seconds=0.05, warm_up_s=0.0, max_time_s=1.0)
FULL = Effort(min_rounds=10, min_runs=3, seconds=0.3, warm_up_s=0.1, precision=0.02, max_time_s=60.0)
TUNING = Effort(seconds=0.1, max_time_s=10.0)
_CALIBRATION, _QUICK_CALIBRATION, _TESTS = 256, 8, 32


def start(job: str, spec: dict[str, Any], *, threads: int, **limits: Any) -> Contestant:
    """A process for a row: OpenVINO's form in the environment that has OpenVINO, anything else in this one."""
    return (OtherTool if spec["model"].endswith(".xml") else Turn)(job, spec, threads=threads, **limits)


def candidates(name: str, folder: Path, inputs: dict[str, Path]) -> tuple[list[Candidate], dict[str, str]]:
    """The rows for one net, PyTorch first, in files made in ``folder``; and, by label, why one could not be made.

    ``inputs`` is what they are calibrated on.
    """
    own = models.export(name, folder)
    # what comes without asking: quantize_static refuses the Attention of opset 23
    plain = models.export(name, folder, opset=torch_onnx.DEFAULT_OPSET)
    samples = {key: np.load(path, mmap_mode="r") for key, path in inputs.items()}
    transformer = name == "encoder"
    makers: dict[str, Callable[[Path], object]] = {
        ORT_DEFAULTS: lambda path: quantizers.ort_defaults(plain, path, samples),
        OPENVINO: lambda path: _nncf(plain, path, inputs, transformer=transformer),
        NNX_STATIC: lambda path: quantizers.nnx_static(own, path, samples),
    }
    if own != plain:
        makers[OPENVINO_OWN] = lambda path: _nncf(own, path, inputs, transformer=transformer)
    if name in MATMUL_NETS:
        makers[NNX_DYNAMIC] = lambda path: quantizers.nnx_dynamic(own, path)
    rows = [_eager(name, plain.stat().st_size), of_file(ModelFile(plain), label=ORT_FP32)]
    left_out: dict[str, str] = {}
    for label, make in makers.items():
        path = folder / f"{label.replace(' ', '-')}.{'xml' if label.startswith(OPENVINO) else 'onnx'}"
        print(f"{name}: {label}", file=sys.stderr)
        try:
            make(path)
        except quantizers.FAILURES as failure:
            print(f"{name}: {label} is left out. {quantizers.why(failure)}", file=sys.stderr)
            left_out[label] = quantizers.why(failure)
            continue
        if label in (NNX_STATIC, NNX_DYNAMIC):
            _tune(ModelFile(path), samples)
        rows.append(_openvino(path, label) if path.suffix == ".xml" else of_file(ModelFile(path), label=label))
    return rows, left_out


def _openvino(path: Path, label: str) -> Candidate:
    """OpenVINO's file, with the weights beside it."""
    files = (path, path.with_suffix(".bin"))
    return Candidate(
        label=label,
        runtime="ort",
        precision="int8-static",
        model=str(path.resolve()),
        sha256=sha256_of(path),
        size_bytes=sum(file.stat().st_size for file in files if file.exists()),
    )


def _tune(model: ModelFile, samples: quantizers.Samples) -> None:
    """As `nnx quantize` does: the session settings that the file runs fastest with are found and stored in it."""
    if settings_search.has_choices(model):
        one = Samples(inputs={key: array[:1] for key, array in samples.items()}, labels=None, source="calibration data")
        found = settings_search.best(model, one, threads=1, precision=model.precision, effort=TUNING)
        print(f"{model.path.stem}: {found}", file=sys.stderr)
        if found.speedup is not None:
            settings_search.store(model, found.settings)


def _eager(name: str, size_bytes: int) -> Candidate:
    return Candidate(
        label=EAGER,
        runtime="eager",
        precision="fp32",
        model=f"{Path(models.__file__).resolve()}:{name}_recipe",
        sha256="",
        size_bytes=size_bytes,
        outputs=(models.NETS[name].recipe.output_name,),
    )


def _nncf(src: Path, dst: Path, inputs: dict[str, Path], *, transformer: bool) -> None:
    """NNCF at its defaults, which are its fastest preset."""
    with OtherTool() as nncf:
        paths = {key: str(path) for key, path in inputs.items()}
        nncf.ask("quantize", model=str(src), inputs=paths, out=str(dst), transformer=transformer)


def measure(name: str, data: Path | None, *, quick: bool) -> tuple[Benchmark, dict[str, str]]:
    """Every row of one net in every setting; and, by label, why one is not there."""
    net = models.NETS[name].recipe
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        calibration = folder / "calibration.npy"
        models.inputs(name, _QUICK_CALIBRATION if quick else _CALIBRATION, data=data, path=calibration)
        rows, left_out = candidates(name, folder, {net.input_name: calibration})
        tests = models.inputs(name, _TESTS, data=data, split="test")
        source = f"{_TESTS} test inputs of {data or 'noise'}"
        samples = Samples(inputs=tests, labels=None, source=source, real=data is not None)
        measured = benchmark.run(
            rows,
            SETTINGS,
            samples,
            judge=judging.judge_with(samples),
            effort=QUICK if quick else FULL,
            progress=LiveProgress(),
            start=start,
        )
    return measured, left_out


def comparisons(measured: Benchmark) -> list[dict[str, Any]]:
    """For each setting the fastest of nnx's int8 files: its time over OpenVINO's, and its speed over the others'.

    All are ratios of medians with their 95 % intervals; None where one of the two did not run.
    """
    found = []
    for setting in dict.fromkeys(row.setting for row in measured.rows):
        rows = {row.candidate.label: row for row in measured.rows if row.setting == setting and row.rounds_ms}
        nnx, openvino = _fastest(rows, NNX_STATIC, NNX_DYNAMIC), _fastest(rows, OPENVINO, OPENVINO_OWN)
        found.append(
            {
                **asdict(setting),
                "nnx": nnx.candidate.label if nnx else None,
                "openvino": openvino.candidate.label if openvino else None,
                "over_openvino": _ratio(nnx, openvino),
                **{f"speedup_over_{label}": _ratio(rows.get(label), nnx) for label in (EAGER, ORT_FP32, ORT_DEFAULTS)},
            }
        )
    return found


def _fastest(rows: dict[str, Row], *labels: str) -> Row | None:
    there = [rows[label] for label in labels if label in rows]
    return min(there, key=lambda row: row.latency_ms(50) or math.inf, default=None)


def _ratio(numerator: Row | None, denominator: Row | None) -> dict[str, float] | None:
    if numerator is None or denominator is None:
        return None
    return asdict(ratio_of_medians(numerator.rounds_ms, denominator.rounds_ms))


def table(name: str, measured: Benchmark) -> str:
    """Median milliseconds of every row in every setting, and nnx's time over OpenVINO's."""
    settings = list(dict.fromkeys(row.setting for row in measured.rows))
    by_place = {(row.candidate.label, row.setting): row for row in measured.rows}
    lines = []
    for label in dict.fromkeys(row.candidate.label for row in measured.rows):
        lines.append([label, *(_cell(by_place[label, setting]) for setting in settings)])
    against = [each["over_openvino"] for each in comparisons(measured)]
    lines.append(
        [
            "nnx over openvino",
            *(
                f"{ratio['estimate']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f})" if ratio else "–"
                for ratio in against
            ),
        ]
    )
    head = [name, *(f"batch {each.batch}, {each.threads} thread{'s' if each.threads > 1 else ''}" for each in settings)]
    return markdown_table(head, lines)


def _cell(row: Row) -> str:
    if not row.rounds_ms:
        return f"{row.status}: {row.reason}"
    speedup = f", {row.speedup.estimate:.2f}x" if row.speedup else ""
    noise = f", {row.parity}" if row.parity else ""
    return f"{row.latency_ms(50):.3f} ms{speedup}{noise}{'' if row.status == 'ok' else f', {row.status}'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_option(parser)
    parser.add_argument("--net", action="append", choices=list(models.NETS), help="only this one; repeatable")
    parser.add_argument("--quick", action="store_true", help="short rounds: does it work?")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with OtherTool() as other:
        versions = other.ask("versions")
    tables: list[str] = []
    nets: dict[str, Any] = {}
    for name in options.net or models.NETS:
        measured, left_out = measure(name, options.data, quick=options.quick)
        tables.append(table(name, measured))
        nets[name] = {**json.loads(measured.to_json()), "comparisons": comparisons(measured), "left_out": left_out}
        facts = {"other_tools": versions, "quick": options.quick, "nets": nets}
        keep(options.out / "int8_speed.json", facts, "\n\n".join(tables))
    print("\n\n".join(tables), f"\n\nThe figures lie in {options.out}.", sep="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

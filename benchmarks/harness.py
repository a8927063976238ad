"""Does measuring change what is measured? nnx's rows beside plain timing loops, in one interleaved run.

    make harness

Each of nnx's rows has a twin: the same model in an empty process that imports its engine and nothing else, timed by the
loop that anybody would write. The SST-2 perceptron in int8 shows what nnx adds to a call of some 40 microseconds,
MobileNetV2 whether the two agree on one of milliseconds. Leaves harness.json and harness.md in artifacts/benchmarks,
and exits with 1 when a ratio surely lies more than 3 % from 1.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from exporters.model_file import ModelFile

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.piped import Piped, PlainRow, serve

PLAIN = "plain loop: "
SMALL = "sst2"
NETS = (SMALL, "mobilenetv2")
LIMIT = 0.03
_TESTS = 32


class PlainLoop(Piped):
    """The twin of a row."""

    def __init__(self, job: str, spec: dict[str, Any], *, threads: int, **limits: Any) -> None:
        super().__init__([sys.executable, Path(__file__).resolve(), "--twin"], spec, threads=threads)


class Script(PlainRow):
    """What a user's own script would do: load the model, feed it the first batch over and over."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def open(self, *, runtime: str, model: str, inputs: dict[str, str], batch: int, **ignored: Any) -> None:
        started = time.perf_counter_ns()
        self._samples = {name: np.load(path) for name, path in inputs.items()}
        feeds = {name: np.ascontiguousarray(array[:batch]) for name, array in self._samples.items()}
        if runtime == "ort":
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self._threads
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            self._call: Any = lambda: session.run(None, feeds)
            self._results: Any = lambda feeds: session.run(None, feeds)[0]
        else:
            self._call = self._torch(model, feeds, compiled=runtime == "compiled")
        self._load_ms = (time.perf_counter_ns() - started) / 1e6

    def _torch(self, model: str, feeds: dict[str, Any], *, compiled: bool) -> Any:
        import torch

        from benchmarks import models

        torch.set_num_threads(self._threads)
        module = models.NETS[model.rpartition(":")[2].removesuffix("_recipe")].recipe.model().eval()
        forward = torch.compile(module) if compiled else module
        tensors = [torch.from_numpy(array) for array in feeds.values()]

        def call() -> Any:
            with torch.inference_mode():
                return forward(*tensors)

        def results(feeds: dict[str, Any]) -> Any:
            with torch.inference_mode():
                return forward(*map(torch.from_numpy, feeds.values())).numpy()

        self._results = results
        return call

    def outputs(self, *, path: str) -> None:
        """All samples, one by one: the twin must compute what nnx's row does."""
        from toolchain.accuracy import calls_file

        count = len(next(iter(self._samples.values())))
        rows = ({name: array[row : row + 1] for name, array in self._samples.items()} for row in range(count))
        calls_file.write(Path(path), [{"output": self._results(row)} for row in rows])


def measure(name: str, *, quick: bool) -> Any:
    """Eager, compiled and ONNX Runtime on one net, each twice; the Benchmark and, by runtime, nnx over the twin."""
    from benchmarks import models
    from exporters.int8 import dynamic as int8_dynamic
    from runtimes.registry import PROVIDERS, available
    from toolchain.bench import benchmark, judging
    from toolchain.bench.candidates import of_file
    from toolchain.bench.effort import Effort
    from toolchain.bench.record import Candidate, Setting
    from toolchain.console import LiveProgress
    from toolchain.conversion import precisions
    from toolchain.inputs.samples import Samples
    from toolchain.processes.turns import Turn

    with tempfile.TemporaryDirectory() as folder:
        model = models.export(name, Path(folder))
        recipe = f"{Path(models.__file__).resolve()}:{name}_recipe"
        output = models.NETS[name].recipe.output_name
        rows = [
            Candidate(
                label=kind, runtime=kind, precision="fp32", model=recipe, sha256="", size_bytes=model.stat().st_size,
                outputs=(output,),
            )
            for kind in ("eager", "compiled")
        ]  # fmt: skip
        rows.append(of_file(ModelFile(model), label="ort"))
        if name == SMALL:
            int8 = model.with_name("int8.onnx")
            int8_dynamic.convert(ModelFile(model), int8, int8=precisions.format_for())
            rows.append(of_file(ModelFile(int8), label="ort int8"))
        rows = [row for row in rows if available(row.runtime, PROVIDERS["cpu"])]
        twins = [replace(row, label=PLAIN + row.label) for row in rows]
        waiting = [twin for pair in zip(rows, twins, strict=True) for twin in pair]
        order = iter([candidate.label for candidate in waiting])  # all can run, so they are started in this order

        def start(job: str, spec: dict[str, Any], **limits: Any) -> Any:
            return (PlainLoop if next(order).startswith(PLAIN) else Turn)(job, spec, **limits)

        samples = Samples(inputs=models.inputs(name, _TESTS), labels=None, source=f"{_TESTS} seeded inputs")
        return benchmark.run(
            waiting,
            [Setting(provider="cpu", batch=1, threads=1)],
            samples,
            judge=judging.judge_with(samples),
            effort=Effort(min_rounds=2, seconds=0.1, max_time_s=2.0)
            if quick
            else Effort(min_rounds=20, max_time_s=200),
            progress=LiveProgress(),
            start=start,
        )


def ratios(measured: Any) -> dict[str, Any]:
    """By runtime: nnx's median latency over its twin's, with its interval."""
    from toolchain.stats import ratio_of_medians

    rows = {row.candidate.label: row for row in measured.rows if row.rounds_ms}
    return {
        label: ratio_of_medians(row.rounds_ms, rows[PLAIN + label].rounds_ms)
        for label, row in rows.items()
        if PLAIN + label in rows
    }


def main() -> int:
    if sys.argv[1:2] == ["--twin"]:
        serve(Script(int(sys.argv[2])))
        return 0
    from dataclasses import asdict

    from benchmarks.results import OUT, keep
    from toolchain.bench import judging
    from toolchain.bench.report import markdown_table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short rounds: does it work?")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    nets: dict[str, Any] = {}
    lines, far = [], []
    for name in NETS:
        measured = measure(name, quick=options.quick)
        judging.require_sound(measured)
        rows = {row.candidate.label: row for row in measured.rows}
        for label, ratio in ratios(measured).items():
            level = "yes" if ratio.low <= 1 <= ratio.high else "no"
            if ratio.low > 1 + LIMIT or ratio.high < 1 - LIMIT:
                far.append(f"{name}, {label}")
            plain, own = rows[PLAIN + label].latency_ms(50) or 0.0, rows[label].latency_ms(50) or 0.0
            percent = f"{(ratio.estimate - 1):+.2%} ({ratio.low - 1:+.2%} to {ratio.high - 1:+.2%})"
            lines.append([f"{name}, {label}", f"{plain:.4f}", f"{own:.4f}", percent, level])
        nets[name] = {**json.loads(measured.to_json()), "ratios": {k: asdict(v) for k, v in ratios(measured).items()}}
    table = markdown_table(["row", "plain loop, ms", "nnx, ms", "nnx over plain (95 %)", "interval holds 0"], lines)
    keep(options.out / "harness.json", {"quick": options.quick, "nets": nets}, table)
    print(f"{table}\n\nThe figures lie in {options.out}.")
    if far:
        print(f"More than {LIMIT:.0%} from the plain loop: {'; '.join(far)}.", file=sys.stderr)
    return 1 if far else 0


if __name__ == "__main__":
    raise SystemExit(main())

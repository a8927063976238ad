"""The steps in order: train -> export -> fp16, int8 -> bench -> report; each proven, reused while nothing changed."""

from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from exporters import torch_onnx
from exporters.artifact import Artifact
from exporters.atomic_file import remove_leftovers, sha256_of, write_text
from exporters.errors import NotApplicable
from exporters.half import fp16
from exporters.int8 import dynamic as int8_dynamic
from exporters.int8 import static as int8_static
from toolchain import __version__, machine, manifest, run_report
from toolchain.accuracy import parity
from toolchain.artifacts_folder import BENCH, EXPLANATION, HISTORY, MODELS, REPORT
from toolchain.bench import benchmark, candidates, judging
from toolchain.bench.benchmark import Effort, Extras
from toolchain.bench.record import Benchmark, Setting
from toolchain.conversion import exporting, proof
from toolchain.conversion import precisions as conversion
from toolchain.conversion.proof import Proven
from toolchain.datasets.dataset import Dataset
from toolchain.inputs import samples, sources
from toolchain.layers import explain
from toolchain.manifest import Manifest
from toolchain.progress import SILENT, Progress
from toolchain.training import checkpoint, loop
from toolchain.training.options import TrainingOptions

CALIBRATION_SAMPLES = 256


class Pipeline:
    """One recipe's road through ``folder``. Every step leaves its files there and its record in ``manifest.json``.

    A step whose inputs (content hashes, options, versions) are those of the record, and whose files are unchanged, is
    reused and said so, unless ``force``. Files appear under their names only whole and proven, so a run killed at any
    moment goes on from the last whole step (training: from the last whole epoch). ``command`` is what the user typed.
    """

    def __init__(
        self,
        recipe_name: str,
        folder: Path,
        *,
        data_folder: Path | None = None,
        force: bool = False,
        command: tuple[str, ...] = (),
        progress: Progress = SILENT,
    ) -> None:
        self.recipe_name = sources.absolute(recipe_name)
        self.recipe = sources.recipe_named(recipe_name)
        self.folder = folder
        self._force, self._command, self._progress = force, command, progress
        self._source = self.recipe.data(data_folder)
        remove_leftovers(folder)
        self.manifest = Manifest(folder)
        self.manifest.describe(
            recipe=self.recipe_name, data=str(data_folder.resolve()) if data_folder is not None else None
        )

    @cached_property
    def data(self) -> Dataset:
        """The data set, read on first use."""
        return self._source.load()

    def path(self, precision: str) -> Path:
        """Where the model of that precision lies."""
        return self.folder / MODELS[precision]

    def train(self, options: TrainingOptions, *, resume: bool | None = None) -> dict[str, Any]:
        """Leave ``checkpoint.pt``.

        A training with the same inputs that was stopped is resumed; ``resume`` is as in :func:`loop.train`.
        """
        inputs = self._inputs("torch", "numpy", "scikit-learn", options=options.as_json(), data=self._data_digest)

        def step() -> tuple[list[Path], dict[str, Any]]:
            result = loop.train(
                self.recipe,
                self.data,
                options,
                self.folder,
                made_from=manifest.digest({name: value for name, value in inputs.items() if name != "options"}),
                resume=False if self._force else resume,
                progress=self._progress,
            )
            model = self.recipe.model()
            checkpoint.load_weights(model, result.checkpoint)
            facts = {
                "epochs": [asdict(epoch) for epoch in result.epochs],
                "seconds": result.seconds,
                "switched_on": list(result.switched_on),
                "validation_accuracy": result.best.validation_accuracy,
                "test_accuracy": loop.accuracy_of(model, self.data, self.data.test, "cpu"),
            }
            preprocessing = self._source.save_preprocessing(self.folder)
            return [result.checkpoint, self.folder / HISTORY, *preprocessing], facts

        return self._step("train", inputs, step, lambda facts: (
            f"test accuracy {facts['test_accuracy']:.2%}, {len(facts['epochs'])} epochs, {facts['seconds']:.0f} s"
        ))  # fmt: skip

    def trained(self, options: TrainingOptions) -> Path:
        """The checkpoint in the folder, however it was trained; trained now with ``options`` when there is none."""
        weights = self.folder / checkpoint.BEST
        if not self.manifest.intact("train"):
            self._progress.note(f"There is no finished {weights}: training first.")
            self.train(options)
        return weights

    def export(self, *, opset: int = torch_onnx.DEFAULT_OPSET) -> dict[str, Any]:
        """Leave ``model.onnx``, compared with PyTorch at batch 1, 2, 7 and on test samples."""
        weights = self.folder / checkpoint.BEST
        inputs = self._inputs("torch", "onnx", "onnxscript", opset=opset, weights=sha256_of(weights))

        return self._model_step(
            "export",
            inputs,
            lambda: exporting.export_recipe(self.recipe, self.data, weights, self.path("fp32"), opset=opset),
        )

    def convert_fp16(self) -> dict[str, Any]:
        """Leave ``model.fp16.onnx``, compared with the fp32 file."""
        inputs = self._inputs("onnx", parent=sha256_of(self.path("fp32")))
        return self._converted("fp16", inputs, lambda dst: fp16.convert(self.path("fp32"), dst))

    def quantize_dynamic(self) -> dict[str, Any]:
        """Leave ``model.int8-dynamic.onnx``, compared with the fp32 file."""
        int8 = conversion.format_for()
        inputs = self._inputs(
            "onnx", "onnxruntime", "onnxruntime-gpu", parent=sha256_of(self.path("fp32")), int8=asdict(int8)
        )
        return self._converted(
            "int8-dynamic", inputs, lambda dst: int8_dynamic.convert(self.path("fp32"), dst, int8=int8)
        )

    def quantize_dynamic_if_applicable(self) -> dict[str, dict[str, Any]]:
        """The facts of :meth:`quantize_dynamic` under its name; none for a model without anything to quantize so."""
        try:
            return {"int8-dynamic": self.quantize_dynamic()}
        except NotApplicable as reason:
            self._progress.note(f"int8-dynamic: left out. {reason.what}")
            self.path("int8-dynamic").unlink(missing_ok=True)
            return {}

    def quantize_static(self, *, calibration_samples: int = CALIBRATION_SAMPLES) -> dict[str, Any]:
        """Leave ``model.int8-static.onnx``, calibrated on the training split, compared with the fp32 file."""
        int8 = conversion.format_for()
        inputs = self._inputs(
            "onnx",
            "onnxruntime",
            "onnxruntime-gpu",
            parent=sha256_of(self.path("fp32")),
            int8=asdict(int8),
            data=self._data_digest,
            calibration_samples=calibration_samples,
        )

        def make(dst: Path) -> Artifact:
            chosen = samples.of_train_split(self.recipe, self.data, calibration_samples)
            return int8_static.convert(self.path("fp32"), dst, samples=chosen.inputs, int8=int8, source=chosen.source)

        return self._converted("int8-static", inputs, make)

    def explain(self) -> dict[str, Any]:
        """Leave ``explain.json``: what each layer of the static int8 file does to precision and time."""
        path = self.folder / EXPLANATION
        model, reference = self.path("int8-static"), self.path("fp32")
        inputs = self._inputs(
            "onnx", "onnxruntime", "onnxruntime-gpu", model=sha256_of(model), reference=sha256_of(reference),
            machine=asdict(machine.describe()), data=self._data_digest,
        )  # fmt: skip

        def step() -> tuple[list[Path], dict[str, Any]]:
            test = samples.of_test_split(self.recipe, self.data, parity.SAMPLES)
            found = explain.explain(
                model, test, reference=reference, threads=machine.usable_cores(), progress=self._progress
            )
            write_text(path, found.to_json())
            return [path], {"layers": len(found.layers), "advice": list(found.advice)}

        return self._step("explain", inputs, step, lambda facts: (
            " ".join(facts["advice"]) or f"{facts['layers']} layers"
        ))  # fmt: skip

    def bench(self, settings: list[Setting], effort: Effort) -> Benchmark:
        """Leave ``bench.json``: every row of the folder in every setting, judged on the whole test split."""
        rows = candidates.of_folder(self.folder, self.recipe_name, self.recipe)
        inputs = self._inputs(
            "torch", "onnxruntime", "onnxruntime-gpu", candidates=[asdict(row) for row in rows],
            settings=[asdict(setting) for setting in settings], effort=asdict(effort),
            machine=asdict(machine.describe()), data=self._data_digest,
        )  # fmt: skip
        path = self.folder / BENCH

        def step() -> tuple[list[Path], dict[str, Any]]:
            test = samples.of_test_split(self.recipe, self.data)
            measured = benchmark.run(
                rows,
                settings,
                test,
                judge=judging.judge_with(test),
                effort=effort,
                extras=Extras(profile=True, command=self._command),
                progress=self._progress,
                keep=lambda so_far: write_text(path, so_far.to_json()),
            )
            # a row that failed or was not available may do better next time: only a sound run is reused
            sound = all(row.status == "ok" for row in measured.rows)
            return [path] if sound else [], {"rows": len(measured.rows)}

        self._step("bench", inputs, step, lambda facts: f"{facts['rows']} rows in {path}")
        return Benchmark.from_json(path.read_text(encoding="utf-8"))

    def report(self, facts: dict[str, dict[str, Any]], measured: Benchmark) -> Path:
        """Leave ``report.md``."""
        path = self.folder / REPORT
        write_text(path, run_report.render(self.recipe.name, facts, measured))
        return path

    @cached_property
    def _data_digest(self) -> str:
        return self._source.digest()

    def _inputs(self, *libraries: str, **more: Any) -> dict[str, Any]:
        """What a step depends on: the recipe's code, the versions of nnx and of ``libraries``, and ``more``."""
        versions = machine.library_versions()
        return {
            "recipe": self.recipe_name.rpartition(":")[2],
            "recipe_code": sources.code_digest(self.recipe_name),
            "versions": {"nnx": __version__} | {name: versions[name] for name in libraries},
            **more,
        }

    def _converted(self, precision: str, inputs: dict[str, Any], make: Callable[[Path], Artifact]) -> dict[str, Any]:
        """A step that makes another precision from the fp32 file, proven on test samples."""

        def convert() -> Proven:
            test = samples.of_test_split(self.recipe, self.data, parity.SAMPLES)
            return proof.convert(
                self.path("fp32"),
                self.path(precision),
                precision=precision,
                make=make,
                inputs=test.inputs,
                proven_on=test.source,
            )

        return self._model_step(precision, inputs, convert)

    def _model_step(self, step: str, inputs: dict[str, Any], make: Callable[[], Proven]) -> dict[str, Any]:
        def run() -> tuple[list[Path], dict[str, Any]]:
            made = make()
            for note in made.artifact.notes:
                self._progress.note(note)
            return [made.artifact.path], {
                "precision": made.artifact.precision,
                "size_bytes": made.artifact.size_bytes,
                "opset": made.artifact.opset,
                "parity": str(made.parity),
            }

        return self._step(step, inputs, run, lambda facts: f"{facts['size_bytes'] / 1e6:.3f} MB; {facts['parity']}")

    def _step(
        self,
        name: str,
        inputs: dict[str, Any],
        run: Callable[[], tuple[list[Path], dict[str, Any]]],
        say: Callable[[dict[str, Any]], str],
    ) -> dict[str, Any]:
        facts = None if self._force else self.manifest.done(name, inputs)
        if facts is not None:
            self._progress.note(f"{name}: reused, {say(facts)}")
            return facts
        self._progress.note(f"{name} ...")
        outputs, facts = run()
        if outputs:
            self.manifest.record(name, inputs, outputs, facts)
        self._progress.note(f"{name}: {say(facts)}")
        return facts


def run(
    pipeline: Pipeline,
    options: TrainingOptions,
    *,
    settings: list[Setting],
    opset: int = torch_onnx.DEFAULT_OPSET,
    calibration_samples: int = CALIBRATION_SAMPLES,
    effort: Effort | None = None,
) -> Benchmark:
    """All steps; returns what ``bench.json`` holds."""
    facts = {
        "train": pipeline.train(options),
        "export": pipeline.export(opset=opset),
        "fp16": pipeline.convert_fp16(),
        **pipeline.quantize_dynamic_if_applicable(),
        "int8-static": pipeline.quantize_static(calibration_samples=calibration_samples),
    }
    pipeline.explain()
    measured = pipeline.bench(settings, effort or Effort())
    pipeline.report(facts, measured)
    return measured

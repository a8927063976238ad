"""The steps in order: train -> export -> fp16, int8 -> bench -> report; each proven, reused while nothing changed."""

from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from exporters import torch_onnx
from exporters.atomic_file import remove_leftovers, sha256_of, write_text
from exporters.errors import ExporterError, NotApplicable, WrongResult
from exporters.model_file import ModelFile
from toolchain import __version__, machine, manifest, records, run_report
from toolchain.accuracy import running
from toolchain.accuracy.gate import Requirement
from toolchain.accuracy.status import Status
from toolchain.artifacts_folder import BENCH, EXPLANATION, HISTORY, MODELS, REPORT
from toolchain.bench import benchmark, candidates, judging
from toolchain.bench.benchmark import Extras
from toolchain.bench.effort import Effort
from toolchain.bench.record import Benchmark, Setting
from toolchain.conversion import exporting, fitting, precisions
from toolchain.conversion.given import Given
from toolchain.conversion.goal import Goal
from toolchain.conversion.precisions import Fp16, Int8Dynamic, Int8Static, Precision
from toolchain.conversion.proof import Proven
from toolchain.conversion.target import Target
from toolchain.datasets.dataset import Dataset
from toolchain.errors import CheckFailed, NnxError, Undecided
from toolchain.inputs import samples, sources
from toolchain.layers import explain
from toolchain.machine import memory_limit
from toolchain.manifest import Manifest
from toolchain.progress import SILENT, Progress
from toolchain.recipes.rows import Rows
from toolchain.steps import ModelStep, Said, TrainStep
from toolchain.training import checkpoint, evaluation, given_weights, loop
from toolchain.training.options import TrainingOptions
from toolchain.training.world import ALONE, World

CALIBRATION_SAMPLES = 256
SEARCH_BUDGET_S = 600.0


_Step = TypeVar("_Step", TrainStep, ModelStep, Said)


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
        self._failures: list[NnxError] = []
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

    def train(self, options: TrainingOptions, *, resume: bool | None = None, world: World = ALONE) -> TrainStep:
        """Leave ``checkpoint.pt``.

        A training with the same inputs that was stopped is resumed; ``resume`` is as in :func:`loop.train`. In a
        ``world`` of several processes the leader calls it, and the others :meth:`train_along`.
        """
        inputs = self._training_inputs(options)
        resume = False if self._force else resume
        is_done = self._kept("train", inputs, TrainStep) is not None
        world.told(None if is_done else {"resume": resume})  # the others wait for nothing that comes after the training

        def step() -> tuple[list[Path], TrainStep]:
            result = self._trained_by_all(inputs, options, resume, world)
            model = self.recipe.model()
            given_weights.load(model, given_weights.Weights(file=result.checkpoint))
            trained = TrainStep(
                epochs=result.epochs,
                seconds=result.seconds,
                switched_on=result.switched_on,
                measure=result.measure,
                validation_score=result.best.validation_score,
                test_score=evaluation.score_of(
                    model, Rows(self.recipe, self.data), self.data.test, self.recipe.judged_by(), "cpu"
                ),
            )
            if self.data.bad.found:
                self._progress.warn(str(self.data.bad))
            preprocessing = self._source.save_preprocessing(self.folder)
            return [result.checkpoint, self.folder / HISTORY, *preprocessing], trained

        return self._step("train", inputs, step, TrainStep)

    def train_along(self, options: TrainingOptions, world: World) -> None:
        """What every process but the leader does: its part of the training, if there is one; it leaves no files."""
        inputs = self._training_inputs(options)
        if (asked := world.told()) is not None:
            self._trained_by_all(inputs, options, asked["resume"], world)

    def _training_inputs(self, options: TrainingOptions) -> dict[str, Any]:
        return self._inputs("torch", "numpy", "scikit-learn", options=options.as_json(), data=self._data_digest)

    def _trained_by_all(
        self, inputs: dict[str, Any], options: TrainingOptions, resume: bool | None, world: World
    ) -> loop.TrainingResult:
        world.require_agreement(inputs)
        return loop.train(
            self.recipe,
            self.data,
            options,
            self.folder,
            made_from=manifest.digest({name: value for name, value in inputs.items() if name != "options"}),
            resume=resume,
            progress=self._progress,
            world=world,
        )

    def trained(self, options: TrainingOptions) -> Path:
        """The checkpoint in the folder, however it was trained; trained now with ``options`` when there is none."""
        weights = self.folder / checkpoint.BEST
        if not self.manifest.intact("train"):
            self._progress.note(f"There is no finished {weights}: training first.")
            self.train(options)
        return weights

    def export(self, *, opset: int = torch_onnx.DEFAULT_OPSET) -> ModelStep:
        """Leave ``model.onnx``, compared with PyTorch at batch 1, 2, 7 and on test samples."""
        weights = self.folder / checkpoint.BEST
        inputs = self._inputs("torch", "onnx", "onnxscript", opset=opset, weights=sha256_of(weights))
        return self._model_step(
            "export",
            inputs,
            lambda: exporting.export_recipe(
                self.recipe,
                self.data,
                given_weights.Weights(file=weights),
                self.path("fp32"),
                target=Target(opset=opset),
            ),
        )

    def convert(
        self,
        precision: Precision,
        *,
        requirement: Requirement | None = None,
        calibration_samples: int = CALIBRATION_SAMPLES,
    ) -> ModelStep:
        """Leave the fp32 file in another precision, by the road of ``nnx convert`` and ``nnx quantize``.

        Calibrated on the training split, judged on the test split; with a ``requirement`` a search finds what must stay
        in float for it. Raises NotApplicable for a model that has nothing to convert so.
        """
        model, name = ModelFile(self.path("fp32")), precision.name
        inputs = self._inputs(
            "onnx", "onnxruntime", "onnxruntime-gpu", parent=model.sha256, precision=repr(precision),
            requirement=repr(requirement), data=self._data_digest,
            calibration_samples=calibration_samples if precision.calibrates else None,
        )  # fmt: skip
        goal = Goal(requirement=requirement, metric=self.recipe.judged_by(), budget_s=SEARCH_BUDGET_S)

        def given(_: ModelFile, calibrates: bool) -> Given:
            judged_on = samples.of_test_split(self.recipe, self.data)
            if not calibrates:
                return Given(calibration=None, judged_on=judged_on)
            chosen = samples.of_train_split(self.recipe, self.data, calibration_samples)
            return Given(calibration=samples.apart(chosen, judged_on), judged_on=judged_on)

        def make() -> Proven:
            return fitting.convert(model, self.path(name), precision, given=given, goal=goal, progress=self._progress)

        return self._model_step(name, inputs, make)

    def leave_out(self, precision: Precision, reason: ExporterError | NnxError) -> None:
        """Say why there is no model of that precision, and see to it that there is none of an earlier run either."""
        self._progress.warn(f"{precision.name}: left out. {reason.what}")
        self.path(precision.name).unlink(missing_ok=True)
        if isinstance(reason, (CheckFailed, Undecided)):
            self._failures.append(reason)

    def require_all(self) -> None:
        """Raise the first CheckFailed or Undecided for which a precision was left out."""
        if self._failures:
            raise self._failures[0]

    def explain(self) -> None:
        """Leave ``explain.json``: what each layer of the static int8 file does to precision and time."""
        path = self.folder / EXPLANATION
        model, reference = ModelFile(self.path("int8-static")), ModelFile(self.path("fp32"))
        inputs = self._inputs(
            "onnx", "onnxruntime", "onnxruntime-gpu", model=model.sha256, reference=reference.sha256,
            machine=asdict(machine.describe()), data=self._data_digest,
        )  # fmt: skip

        def step() -> tuple[list[Path], Said]:
            test = samples.of_test_split(self.recipe, self.data, running.SAMPLES)
            found = explain.explain(
                model, test, reference=reference, threads=machine.usable_cores(), progress=self._progress
            )
            write_text(path, found.to_json())
            return [path], Said(text=" ".join(found.advice) or f"{len(found.layers)} layers")

        self._step("explain", inputs, step, Said)

    def bench(self, settings: list[Setting], effort: Effort) -> Benchmark:
        """Leave ``bench.json``: every row of the folder in every setting, judged on the whole test split."""
        rows = candidates.of_folder(self.folder, self.recipe_name, self.recipe)
        inputs = self._inputs(
            "torch", "onnxruntime", "onnxruntime-gpu", candidates=[asdict(row) for row in rows],
            settings=[asdict(setting) for setting in settings], effort=asdict(effort),
            machine=asdict(machine.describe()), data=self._data_digest,
        )  # fmt: skip
        path = self.folder / BENCH

        def step() -> tuple[list[Path], Said]:
            test = samples.of_test_split(self.recipe, self.data)
            measured = benchmark.run(
                rows,
                settings,
                test,
                judge=judging.judge_with(test, metric=self.recipe.judged_by()),
                effort=effort,
                extras=Extras(profile=True, command=self._command),
                progress=self._progress,
                keep=lambda so_far: write_text(path, so_far.to_json()),
            )
            # a row that failed or was not available may do better next time: only a sound run is reused
            sound = all(row.status is Status.OK for row in measured.rows)
            return [path] if sound else [], Said(text=f"{len(measured.rows)} rows in {path}")

        self._step("bench", inputs, step, Said)
        return Benchmark.from_json(path.read_text(encoding="utf-8"))

    def report(self, train: TrainStep, models: list[ModelStep], measured: Benchmark) -> Path:
        """Leave ``report.md``."""
        path = self.folder / REPORT
        write_text(path, run_report.render(self.recipe.name, train, models, measured))
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

    def _model_step(self, step: str, inputs: dict[str, Any], make: Callable[[], Proven]) -> ModelStep:
        def run() -> tuple[list[Path], ModelStep]:
            made = make()
            for note in made.artifact.notes:
                self._progress.note(note)
            return [made.artifact.path], ModelStep.of(made)

        return self._step(step, inputs, run, ModelStep)

    def _step(
        self,
        name: str,
        inputs: dict[str, Any],
        run: Callable[[], tuple[list[Path], _Step]],
        kind: type[_Step],
    ) -> _Step:
        if (kept := self._kept(name, inputs, kind)) is not None:
            self._progress.note(f"{name}: reused, {kept}")
            return kept
        self._progress.note(f"{name} ...")
        outputs, found = run()
        if outputs:
            self.manifest.record(name, inputs, outputs, asdict(found))
        self._progress.note(f"{name}: {found}")
        return found

    def _kept(self, name: str, inputs: dict[str, Any], kind: type[_Step]) -> _Step | None:
        """What a step came to that need not be done again; None for one to do, and for another nnx's facts about it."""
        facts = None if self._force else self.manifest.done(name, inputs)
        if facts is None:
            return None
        try:
            return records.made(kind, facts)
        except (TypeError, AttributeError):
            return None


def run(
    pipeline: Pipeline,
    options: TrainingOptions,
    *,
    settings: list[Setting],
    opset: int = torch_onnx.DEFAULT_OPSET,
    calibration_samples: int = CALIBRATION_SAMPLES,
    requirement: Requirement | None = None,
    effort: Effort | None = None,
) -> Benchmark:
    """All steps; returns what ``bench.json`` holds.

    A precision that does not suit the model, or does not keep its accuracy, is left out and said, and the rest goes on:
    see :meth:`Pipeline.require_all`.
    """
    train = pipeline.train(options)
    with memory_limit.held():
        models = [pipeline.export(opset=opset)]
        int8 = precisions.format_for()
        for precision in (Fp16(), Int8Dynamic(int8=int8), Int8Static(int8=int8)):
            try:
                models.append(
                    pipeline.convert(precision, requirement=requirement, calibration_samples=calibration_samples)
                )
            except (NotApplicable, WrongResult, CheckFailed, Undecided) as reason:
                pipeline.leave_out(precision, reason)
        if pipeline.path("int8-static").is_file():
            pipeline.explain()
    measured = pipeline.bench(settings, effort or Effort())
    pipeline.report(train, models, measured)
    return measured

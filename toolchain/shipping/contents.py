"""What goes into a package: model files, samples to test them with, and all that is known about both."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from exporters.model_file import ModelFile
from toolchain import manifest, regular_file, strict_json
from toolchain.artifacts_folder import BENCH, MODELS
from toolchain.bench.record import Benchmark, Row
from toolchain.datasets import image_folder, preparation
from toolchain.errors import BadUsage, CheckFailed
from toolchain.inputs import made_up, samples, sources, stored
from toolchain.manifest import Manifest
from toolchain.progress import SILENT, Progress
from toolchain.shipping import golden, recommending
from toolchain.shipping.golden import Cases

if TYPE_CHECKING:
    from toolchain.recipes.recipe import Recipe

_SEEDED = 16


@dataclass(frozen=True, kw_only=True)
class Model:
    """A file, what it is called in the package, and its row of the benchmark."""

    name: str
    file: ModelFile
    row: Row | None = None


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """``cases`` are the golden ones, taken of ``source``; the rest is what is known of inputs, answers and training.

    ``preprocessing`` and ``labels`` are empty where nothing is known of them.
    """

    cases: Cases
    source: str
    preprocessing: Mapping[str, Any] | None = None
    labels: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Contents:
    """``models`` in the order of recommendation, by ``benchmark`` where there is one."""

    models: Sequence[Model]
    inputs: Inputs
    benchmark: Benchmark | None = None

    @property
    def machine(self) -> Mapping[str, Any] | None:
        """The one that the order was measured on."""
        if self.benchmark is None:
            return None
        row = self.models[0].row
        return self.benchmark.machine if row is None else self.benchmark.machine_of(row)


def of_folder(
    folder: Path,
    *,
    samples_source: str | None = None,
    data_folder: Path | None = None,
    recipes: Sequence[str] = (),
    benchmark: Path | None = None,
    progress: Progress = SILENT,
) -> Contents:
    """All models of an artifacts folder, in the order of its benchmark, with test samples of its recipe.

    Of recipes, which are code, only those run that come with nnx, and those among ``recipes``, which the user named.
    """
    known = manifest.of_existing(folder)
    files = {name: ModelFile(folder / path) for name, path in MODELS.items() if (folder / path).is_file()}
    if not files:
        raise BadUsage(f"{folder} holds no model.", "Make them with `nnx run RECIPE`.")
    recipe = sources.trusted(known.fact("recipe") or "", folder, recipes)
    told = known.fact("data")
    inputs = _of_recipe(recipe, data_folder or (Path(told) if told else None), folder)
    if samples_source is not None:
        inputs = _of_samples(samples_source, data_folder, next(iter(files.values())))
    stored = folder / BENCH
    models = [Model(name=name, file=file) for name, file in files.items()]
    given = Contents(models=models, inputs=replace(inputs, provenance=_provenance_of(known)))
    return _ordered(given, benchmark or (stored if stored.is_file() else None), progress)


def of_models(
    paths: Sequence[Path],
    *,
    samples_source: str | None = None,
    data_folder: Path | None = None,
    benchmark: Path | None = None,
    progress: Progress = SILENT,
) -> Contents:
    """Model files, each called by its precision, or by its own name where two are alike."""
    files = [ModelFile(path) for path in paths]
    names = [file.precision for file in files]
    if len(set(names)) < len(names):
        names = [re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem) for path in paths]
    if len({name.casefold() for name in names}) < len(names):
        raise BadUsage("Two models have the same name and precision.", "Name each once, or rename a file.")
    if samples_source is None:
        progress.warn("No real inputs given: the golden ones are seeded random values; name some with --samples.")
        made = made_up.samples_for(files[0], _SEEDED)
        inputs = Inputs(cases=golden.choose(made), source=made.source)
    else:
        inputs = _of_samples(samples_source, data_folder, files[0])
    models = [Model(name=name, file=file) for name, file in zip(names, files, strict=True)]
    return _ordered(Contents(models=models, inputs=inputs), benchmark, progress)


def _of_samples(source: str, data_folder: Path | None, model: ModelFile) -> Inputs:
    """Samples as ``--samples`` names them, with what is known of how they were made."""
    if sources.is_recipe(source):
        return _of_recipe(sources.recipe_named(source), data_folder, None)
    given = samples.named(source, data_folder, split="test", model=model)
    inputs = Inputs(cases=golden.choose(given), source=Path(source).name)
    if stored.is_one(source):
        opened = stored.opened(source, samples.specs_of(model), split="test")
        inputs = replace(inputs, labels=opened.classes)
        if opened.pictures:
            how = image_folder.prepared_as(model.inputs[0].shape) | {"input": model.inputs[0].name}
            inputs = replace(inputs, preprocessing=how)
    return inputs


def _of_recipe(recipe: "Recipe", data_folder: Path | None, folder: Path | None) -> Inputs:
    """Test samples of a recipe; what training left in ``folder`` about preprocessing, else what the data say now."""
    source = recipe.data(data_folder)
    data = source.load()
    how = None if folder is None else _preprocessing_in(folder)
    if how is None:
        with TemporaryDirectory() as temporary:
            source.save_preprocessing(Path(temporary))
            how = _preprocessing_in(Path(temporary))
    return Inputs(
        cases=golden.choose(samples.of_test_split(recipe, data), data.texts),
        source=f"the test split of {recipe.name}",
        preprocessing=None if how is None else how | {"input": recipe.input_name},
        labels=data.classes,
        provenance={"recipe": recipe.name, "data": source.digest()},
    )


def _preprocessing_in(folder: Path) -> dict[str, Any] | None:
    path = folder / preparation.NAME
    if not path.is_file():
        return None
    try:
        found = strict_json.parsed(regular_file.read_bytes(path))
    except ValueError as error:
        raise BadUsage(f"{path} is no JSON: {error}.", "Train again; that writes it.") from error
    if not isinstance(found, dict) or found.get("kind") not in ("image", "tfidf"):
        raise BadUsage(f"{path} says nothing that a runner could do.", "Train again; that writes it.")
    return found


def _provenance_of(known: Manifest) -> dict[str, str]:
    """Recipe, code, data and versions as the training step recorded them."""
    inputs = known.inputs("train")
    versions = inputs.get("versions", {})
    told = {"recipe": inputs.get("recipe"), "recipe_sha256": inputs.get("recipe_code"), "data": inputs.get("data")}
    told |= {"options_sha256": manifest.digest(inputs["options"])} if "options" in inputs else {}
    told["trained_with"] = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return {name: str(value) for name, value in told.items() if value}


def _ordered(given: Contents, path: Path | None, progress: Progress) -> Contents:
    """The models as a benchmark orders them; without one as they are."""
    _require_alike(given.models)
    if path is None:
        if len(given.models) > 1:
            progress.warn("There is no benchmark: the variants keep their order; let `nnx bench` recommend the first.")
        return given
    benchmark = Benchmark.from_json(regular_file.read_bytes(path))
    hashes = {each.name: each.file.sha256 for each in given.models}
    bad = recommending.refused(benchmark, hashes)
    for name, reason in bad.items():
        progress.warn(f"{name}: left out. {reason}")
    by_name = {each.name: each for each in given.models if each.name not in bad}
    if not by_name:
        raise CheckFailed(f"{path} says of every model that it is not to be trusted.", "Make them again.")
    rows = recommending.rows_of(benchmark, hashes)
    if not rows:
        progress.warn(f"{path} has no row of these files: the variants keep their order.")
        return replace(given, models=list(by_name.values()))
    measured = [replace(by_name[name], row=row) for name, row in rows.items()]
    others = [each for name, each in by_name.items() if name not in rows]
    return replace(given, models=[*measured, *others], benchmark=benchmark)


def _require_alike(models: Sequence[Model]) -> None:
    """BadUsage unless all have the same inputs and outputs: a device asks one package one question."""
    first = models[0].file
    for each in models[1:]:
        if (each.file.inputs, each.file.outputs) != (first.inputs, first.outputs):
            raise BadUsage(
                f"{each.file} has other inputs or outputs than {first}.",
                "Make a package of each, or convert one with `nnx convert --rename` or `--float-io`.",
            )


def name_of(targets: Sequence[Path]) -> str:
    """What a package of these is called where nobody says: the folder's name, or the first file's."""
    first = targets[0].resolve()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", first.name if first.is_dir() else first.name.removesuffix(".onnx"))

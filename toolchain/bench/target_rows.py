"""``nnx bench``: from the targets a user names to rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from exporters.atomic_file import write_text
from exporters.model_file import ModelFile
from toolchain import manifest
from toolchain.accuracy.gate import Requirement
from toolchain.accuracy.metrics.built_in import TOP1
from toolchain.accuracy.metrics.metric import Metric
from toolchain.artifacts_folder import MODELS
from toolchain.bench import benchmark, candidates, judging
from toolchain.bench.benchmark import Extras
from toolchain.bench.effort import Effort
from toolchain.bench.hosts import Host
from toolchain.bench.record import Benchmark, Candidate, Setting
from toolchain.errors import BadUsage
from toolchain.inputs import made_up, samples, sources
from toolchain.inputs.samples import Samples
from toolchain.progress import SILENT, Progress

DEFAULT_BATCHES = (1, 32)


@dataclass(frozen=True)
class Variants:
    """Files that belong together, by what they are called, and what they are fed with where nothing else is named."""

    path: Path
    files: Mapping[str, ModelFile]
    samples: Samples


Target = Path | ModelFile | Variants
"""An artifacts folder, a model file, or the files of a package."""
_MOST_RANDOM = 256
"""Seeded samples made at most: a larger batch holds them several times."""


def opened(targets: Sequence[Path]) -> list[Target]:
    """Folders as they are, files opened."""
    return [target if target.is_dir() else ModelFile(target) for target in targets]


def metric_of(targets: Sequence[Target], recipes: Sequence[str] = ()) -> Metric:
    """That of the first folder's recipe, on whose test split rows run; top1 without a folder.

    Raises BadUsage for a folder made by code that is not among ``recipes``.
    """
    for target in targets:
        if isinstance(target, Path):
            return sources.trusted(manifest.of_existing(target).fact("recipe") or "", target, recipes).judged_by()
    return TOP1


def bench(
    targets: Sequence[Target],
    settings: Sequence[Setting],
    *,
    samples_source: str | None = None,
    data_folder: Path | None = None,
    effort: Effort | None = None,
    extras: Extras | None = None,
    requirement: Requirement | None = None,
    metric: Metric = TOP1,
    output: Path | None = None,
    progress: Progress = SILENT,
    recipes: Sequence[str] = (),
    hosts: Mapping[str, Host] | None = None,
) -> Benchmark:
    """Measure every target; write the JSON to ``output`` if given.

    Rows run on ``samples_source``; without it on the test split of the first folder's recipe, or on seeded noise. What
    they must keep of the baseline's score by ``metric`` is the ``requirement``, by default :func:`gate.default_for`. Of
    the recipes that folders name, which are code, only those run that come with nnx, and those among ``recipes``, which
    the user named. ``hosts`` are the other machines that settings name.
    """
    if data_folder is not None and samples_source is None and not any(isinstance(each, Path) for each in targets):
        raise BadUsage("--data would do nothing for model files.", "Name what to take from it with --samples.")
    named: list[tuple[Path, list[Candidate]]] = []
    given: Samples | None = None
    if samples_source is not None:
        given = samples.named(samples_source, data_folder, split="test", model=_first_model(targets), metric=metric)
        recipes = (*recipes, samples_source)
    for target in targets:
        if isinstance(target, ModelFile):
            named.append((target.path, [candidates.of_file(target, label=target.path.stem)]))
            continue
        if isinstance(target, Variants):
            named.append((target.path, [candidates.of_file(file, label=name) for name, file in target.files.items()]))
            given = given or target.samples
            continue
        known = manifest.of_existing(target)
        name = known.fact("recipe") or ""
        recipe = sources.trusted(name, target, recipes)
        named.append((target, candidates.of_folder(target, name, recipe)))
        if given is None:
            folder = data_folder or (Path(known.fact("data") or "") if known.fact("data") else None)
            given = samples.of_test_split(recipe, recipe.data(folder).load())
    rows, extras = _distinct(named), extras or Extras()
    labels = [row.label for row in rows]
    if extras.reference is not None and extras.reference not in labels:
        raise BadUsage(f"There is no row '{extras.reference}'.", f"Choose one of: {', '.join(labels)}.")
    if given is None:
        progress.warn("No real inputs given: the rows run on seeded random values, and have no accuracy.")
        most = min(_MOST_RANDOM, max(setting.batch for setting in settings))
        given = made_up.samples_for(next(each for each in targets if isinstance(each, ModelFile)), most)
    samples.require_answers(metric, given)
    for file in _files(targets):
        file.release()  # the rows need the memory
    return benchmark.run(
        rows,
        settings,
        given,
        judge=judging.judge_with(given, requirement=requirement, metric=metric),
        effort=effort,
        extras=extras,
        progress=progress,
        keep=None if output is None else lambda so_far: write_text(output, so_far.to_json()),
        others=hosts,
    )


def batches(targets: Sequence[Target]) -> tuple[int, ...]:
    """The batch sizes to measure where none are asked for: those that model files are fixed to, else 1 and 32.

    1 where the first file, after which the samples are read, has no batch axis, or where none is fixed beside one
    without.
    """
    axes = [file.batch_axes for file in _files(targets)]
    unbatched = [all(axis is None for axis in each.inputs.values()) for each in axes]
    fixed = {each.fixed for each in axes if each.fixed is not None}
    if fixed and not unbatched[0]:
        return tuple(sorted(fixed))
    return (1,) if any(unbatched) else DEFAULT_BATCHES


def _files(targets: Sequence[Target]) -> list[ModelFile]:
    """Those that are open."""
    groups = [
        [each] if isinstance(each, ModelFile) else each.files.values() for each in targets if not isinstance(each, Path)
    ]
    return [file for group in groups for file in group]


def _first_model(targets: Sequence[Target]) -> ModelFile | None:
    """A file that tells what the samples are inputs of."""
    for target in targets:
        if files := _files([target]):
            return files[0]
        if isinstance(target, Path) and (target / MODELS["fp32"]).is_file():
            return ModelFile(target / MODELS["fp32"])
    return None


def _distinct(named: list[tuple[Path, list[Candidate]]]) -> list[Candidate]:
    """All candidates; where labels clash, each is called by its target's folder too. BadUsage when that is no help."""
    labels = [candidate.label for _, found in named for candidate in found]
    clash = len(set(labels)) < len(labels)
    result = []
    for target, found in named:
        place = target.resolve()
        prefix = place.name if place.is_dir() else place.parent.name
        result += [replace(each, label=f"{prefix}/{each.label}") if clash else each for each in found]
    if len({candidate.label for candidate in result}) < len(result):
        raise BadUsage("Two targets are the same, or have the same name.", "Name each once, or rename a file.")
    return result

"""``nnx bench``: from the targets a user names to rows."""

from collections.abc import Sequence
from pathlib import Path

from exporters import onnx_file, provenance
from exporters.atomic_file import write_text
from runtimes.ort import OrtRuntime
from toolchain import artifacts_folder, benchmark, judging, manifest, samples, sources
from toolchain.bench_record import Benchmark, Candidate, Setting
from toolchain.benchmark import Effort
from toolchain.errors import BadUsage
from toolchain.progress import Progress
from toolchain.samples import Samples


def bench(
    targets: Sequence[Path],
    settings: Sequence[Setting],
    *,
    samples_source: str | None,
    data_folder: Path | None,
    effort: Effort,
    output: Path | None,
    progress: Progress,
) -> Benchmark:
    """Measure every target; write the JSON to ``output`` if given.

    Rows run on ``samples_source``; without it on the test split of the first folder's recipe, or on seeded noise.
    """
    candidates: list[Candidate] = []
    given: Samples | None = None
    if samples_source is not None:
        given = samples.named(samples_source, data_folder, split="test")
    for target in targets:
        if target.is_dir():
            known = manifest.of_existing(target)
            name = known.fact("recipe") or ""
            recipe = sources.recipe_named(name)
            found = artifacts_folder.candidates(target, name, recipe)
            if given is None:
                folder = data_folder or (Path(known.fact("data") or "") if known.fact("data") else None)
                given = samples.of_test_split(recipe, recipe.data(folder).load())
        else:
            precision = provenance.read(onnx_file.load(target)).get("precision", "fp32")
            found = [artifacts_folder.of_file(target, label=target.stem, precision=precision)]
        candidates += found
    candidates = _distinct(candidates)
    if given is None:
        runtime = OrtRuntime(Path(candidates[0].model))
        runtime.open()
        progress.warn("No real inputs given: the rows run on seeded random values, and have no accuracy.")
        given = samples.random_for(list(runtime.inputs), max(setting.batch for setting in settings))
    measured = benchmark.run(
        candidates, settings, given, judge=judging.judge_with(given), effort=effort, progress=progress
    )
    if output is not None:
        write_text(output, measured.to_json())
    return measured


def _distinct(candidates: list[Candidate]) -> list[Candidate]:
    """Refuse two targets with one label: their rows could not be told apart."""
    labels = [candidate.label for candidate in candidates]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise BadUsage(f"Two targets are called {', '.join(twice)}.", "Bench folders one at a time, or rename a file.")
    return candidates

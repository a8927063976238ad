"""The commands that make what is missing, and those that made what is there; nothing in them is invented."""

import shlex

from toolchain.artifacts_folder import BENCH, EXPLANATION, MODELS
from toolchain.html_report.gather import Gathered

_RECIPE = "RECIPE"
"""Stands for what no file knows."""
_TEST_SPLIT = "the test split of "
"""How an explanation calls the samples that a recipe gave."""


def profile(gathered: Gathered) -> str | None:
    """The bench with profiles; None where the file alone does not say how it was made."""
    if gathered.source.is_dir():
        output = gathered.source / BENCH
        words = ["nnx", "bench", str(gathered.source), "--profile", *_data(gathered), "--output", str(output)]
        return shlex.join(words)
    typed = gathered.benchmark.command
    return shlex.join([*typed, "--profile"]) if typed[:2] == ("nnx", "bench") else None


def explain(gathered: Gathered) -> str:
    """``nnx explain`` of one of the folder's models."""
    reference = str(gathered.source / MODELS["fp32"])
    words = ["nnx", "explain", "MODEL.onnx", "--reference", reference, *_samples(gathered), "--json"]
    return f"{shlex.join(words)} > {shlex.quote(str(gathered.source / EXPLANATION))}"


def run(gathered: Gathered) -> str:
    return shlex.join(["nnx", "run", gathered.recipe or _RECIPE, *_data(gathered)])


def ablate(gathered: Gathered) -> str:
    return shlex.join(["nnx", "train", gathered.recipe or _RECIPE, "--ablate", *_data(gathered)])


def again(gathered: Gathered) -> list[str]:
    """What was typed, as far as that is known; what made the other parts; the report."""
    lines = []
    if gathered.benchmark.command:
        lines.append(shlex.join(gathered.benchmark.command))
    elif gathered.recipe:
        lines.append(run(gathered))
    if gathered.explained:
        found = gathered.explained
        reference = ["--reference", found.reference] if found.reference else []
        samples = _samples(gathered) if found.samples.startswith(_TEST_SPLIT) else []
        lines.append(shlex.join(["nnx", "explain", found.model, *reference, *samples, "--json"]))
    if gathered.ablation:
        lines.append(ablate(gathered))
    lines.append(shlex.join(["nnx", "report", str(gathered.source)]))
    return list(dict.fromkeys(lines))


def _samples(gathered: Gathered) -> list[str]:
    return ["--samples", gathered.recipe or _RECIPE, *_data(gathered)]


def _data(gathered: Gathered) -> list[str]:
    return ["--data", gathered.data] if gathered.data else []

"""The rows that a benchmark makes of an artifacts folder, or of one model file."""

from pathlib import Path
from typing import TYPE_CHECKING

from exporters.atomic_file import sha256_of
from exporters.errors import BadModelFile
from exporters.model_file import ModelFile
from toolchain.artifacts_folder import MODELS
from toolchain.bench.record import Candidate
from toolchain.errors import BadUsage

if TYPE_CHECKING:
    from toolchain.recipes.recipe import Recipe


def of_folder(folder: Path, recipe_name: str, recipe: "Recipe") -> list[Candidate]:
    """Eager and compiled PyTorch, and every model file that is there, in the order of the table."""
    from toolchain.training import checkpoint  # loads torch, which those who want a name need not wait for

    weights = folder / checkpoint.BEST
    found = []
    fp32 = folder / MODELS["fp32"]
    if weights.is_file():
        found = [
            Candidate(
                label=runtime,
                runtime=runtime,
                precision="fp32",
                model=recipe_name,
                weights=str(weights.resolve()),
                sha256=sha256_of(weights),
                size_bytes=weights.stat().st_size,
                outputs=_outputs(fp32) or (recipe.output_name,),
            )
            for runtime in ("eager", "compiled")
        ]
    for precision, name in MODELS.items():
        if (folder / name).is_file():
            found.append(_of_artifact(folder / name, precision))
    if not found:
        raise BadUsage(f"{folder} holds no checkpoint and no model.", "Make them with `nnx run RECIPE`.")
    return found


def _outputs(path: Path) -> tuple[str, ...]:
    """As the file names them that was made of the module; none where there is no such file."""
    if not path.is_file():
        return ()
    try:
        return tuple(value.name for value in ModelFile(path).outputs)
    except BadModelFile:
        return ()


def _of_artifact(path: Path, precision: str) -> Candidate:
    """One of a folder's files; a broken one is a row too, which then fails by itself."""
    label = f"ort {precision}"
    try:
        return of_file(ModelFile(path), label=label)
    except BadModelFile:
        return Candidate(
            label=label,
            runtime="ort",
            precision=precision,
            model=str(path.resolve()),
            sha256=sha256_of(path),
            size_bytes=path.stat().st_size,
        )


def of_file(file: ModelFile, *, label: str) -> Candidate:
    """One ``.onnx`` file, with the files beside it that hold its weights, as a row."""
    return Candidate(
        label=label,
        runtime="ort",
        precision=file.precision,
        model=str(file.path.resolve()),
        sha256=file.sha256,
        size_bytes=file.size_bytes,
    )

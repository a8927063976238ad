"""A package that is whole, and one of its variants, open, which answers here as its golden values say."""

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from exporters.model_file import ModelFile
from runtimes.base import Runtime, TensorSpec, run
from runtimes.errors import RunFailed
from runtimes.ort import OrtRuntime
from toolchain.errors import BadUsage, CheckFailed
from toolchain.progress import SILENT, Progress
from toolchain.serving.protocol import Interface
from toolchain.serving.tensors import DATATYPES
from toolchain.shipping import archive, golden_values, verification
from toolchain.shipping import package as packages
from toolchain.shipping.golden_values import Golden
from toolchain.shipping.package import Package, Tensor, Variant


@dataclass(frozen=True, kw_only=True)
class Served:
    """A model that answers; of its calls ``most_rows`` rows may run together, 1 where each runs alone.

    ``folder`` is the package's, while it is open.
    """

    folder: Path
    interface: Interface
    package: Package
    variant: Variant
    runtime: OrtRuntime
    threads: int
    most_rows: int


@contextmanager
def opened(
    package: Path,
    *,
    variant: str | None = None,
    trust: Path | None = None,
    threads: int | None = None,
    most_rows: int = 1,
    progress: Progress = SILENT,
) -> Iterator[Served]:
    """``package``, a folder or a .tar or .zip of it, whose ``variant`` (the recommended one) answers in the block.

    ``threads`` are those of the package's own measurement where nobody says, and no more than there are processors.
    Raises CheckFailed for a package that is not what it should be, that ``trust``, a public key, has not signed, or
    whose variant does not answer as its golden values say; BadPackage and BadUsage for what is no package, or has no
    such variant.
    """
    with archive.opened(package) as folder:
        verification.require(replace(verification.verify(folder, trust), package=str(package)))
        described = packages.read(folder)
        chosen = _variant(described, variant)
        counted = threads or min(chosen.row.threads if chosen.row else 1, os.cpu_count() or 1)
        weights = None if chosen.shared_weights is None else folder / chosen.shared_weights
        values = golden_values.read(folder, chosen.name)
        with OrtRuntime(folder / chosen.model, threads=counted, weights=weights) as runtime:
            _test(runtime, values, described.name)
            together = _together(folder / chosen.model, runtime, values, most_rows, progress)
            yield Served(
                folder=folder,
                interface=Interface(
                    name=described.name,
                    version=described.version,
                    inputs=_named(runtime.inputs),
                    outputs=_named(runtime.outputs),
                ),
                package=described,
                variant=chosen,
                runtime=runtime,
                threads=counted,
                most_rows=together,
            )


def _variant(package: Package, name: str | None) -> Variant:
    found = [each for each in package.variants if name in (None, each.name)]
    if not found:
        names = ", ".join(each.name for each in package.variants)
        raise BadUsage(f"{package.name} has no variant '{name}'.", f"Choose from {names}.")
    return found[0]


def _named(specs: Sequence[TensorSpec]) -> dict[str, Tensor]:
    """As the session says it: what the package says of it may be another matter."""
    for spec in specs:
        if spec.dtype not in DATATYPES:
            raise BadUsage(
                f"'{spec.name}' is {spec.dtype}, which is not served.",
                "Cut the model there with `nnx convert`, or cast it to float32.",
            )
    return {spec.name: Tensor(name=spec.name, dtype=spec.dtype, shape=spec.shape) for spec in specs}


def _test(runtime: Runtime, values: Golden, name: str) -> None:
    wrong = [why for number, call in enumerate(values.calls) for why in values.faults(number, run(runtime, call))]
    if wrong:
        raise CheckFailed(f"{name} fails its self-test: {'; '.join(wrong[:3])}.", "Do not serve it.")


def _together(model: Path, runtime: Runtime, values: Golden, most_rows: int, progress: Progress) -> int:
    """``most_rows`` where so many golden calls in one give what each gives alone, within its tolerance; else 1."""
    if most_rows == 1:
        return 1
    axes = ModelFile(model).batch_axes
    if axes.fixed is not None or {*axes.inputs.values(), *axes.outputs.values()} != {0}:
        progress.warn("Each request runs alone: not all inputs and outputs have a batch of any length in front.")
        return 1
    first = [array.shape for array in values.calls[0].values()]
    alike = [n for n in range(values.singles) if [array.shape for array in values.calls[n].values()] == first]
    for count in {2, most_rows}:
        numbers = list(itertools.islice(itertools.cycle(alike), count))
        if why := _differs(runtime, values, numbers):
            progress.warn(f"Each request runs alone: {count} golden inputs together do not give the same: {why}.")
            return 1
    return most_rows


def _differs(runtime: Runtime, values: Golden, numbers: list[int]) -> str | None:
    calls = [values.calls[number] for number in numbers]
    rows = [len(next(iter(call.values()))) for call in calls]
    try:
        outputs = run(runtime, {name: np.concatenate([call[name] for call in calls]) for name in calls[0]})
    except RunFailed as error:
        return str(error).rstrip(".")
    start = 0
    for number, count in zip(numbers, rows, strict=True):
        part = {name: array[start : start + count] for name, array in outputs.items()}
        if faults := values.faults(number, part):
            return faults[0]
        start += count
    return None

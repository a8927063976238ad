"""The variants of a package as files to measure, fed with its golden inputs."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters.batch_axes import BatchAxes
from exporters.model_file import ModelFile
from toolchain.bench import target_rows
from toolchain.bench.target_rows import Target, Variants
from toolchain.inputs.samples import Samples
from toolchain.shipping import golden_values, package, verification
from toolchain.shipping.golden_values import Golden
from toolchain.shipping.package import Variant

Array = npt.NDArray[Any]


@contextlib.contextmanager
def opened(targets: Sequence[Path]) -> Iterator[list[Target]]:
    """What ``nnx bench`` measures: packages by their variants, and all else as :func:`target_rows.opened` has it.

    Weights that variants share lie beside each while the block lasts. Raises CheckFailed for a package that is not as
    its SHA256SUMS say.
    """
    with contextlib.ExitStack() as stack:
        found: list[Target] = []
        for target in targets:
            if not (target / package.PACKAGE).is_file():
                found += target_rows.opened([target])
                continue
            verification.require(verification.verify(target))
            told = package.read(target)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nnx-variants-")))
            variants = sorted(told.variants, key=lambda each: each.precision != "fp32")  # the others are judged by it
            files = {each.name: ModelFile(_whole(target, each, folder)) for each in variants}
            axes = next(iter(files.values())).batch_axes
            inputs = stacked(golden_values.read(target, told.variants[0].name), axes)
            found.append(Variants(target, files, Samples(
                inputs=inputs, labels=None, layout=axes, source=f"the golden inputs of {target.name}"
            )))  # fmt: skip
        yield found


def stacked(golden: Golden, axes: BatchAxes) -> Mapping[str, Array | list[Array]]:
    """The samples of which the single calls were made, as :data:`exporters.feeds.SampleSet` has them."""
    calls = golden.calls[: golden.singles]
    found: dict[str, Array | list[Array]] = {}
    for name in calls[0]:
        arrays, axis = [call[name] for call in calls], axes.inputs.get(name)
        alike = len({array.shape for array in arrays}) == 1
        if axis is not None and all(array.shape[axis] == (axes.fixed or 1) for array in arrays):
            moved = [np.moveaxis(array, axis, 0) for array in arrays]
            found[name] = np.concatenate(moved) if alike else [sample for array in moved for sample in array]
        else:  # a call of its own each
            found[name] = np.stack(arrays) if alike else arrays
    return found


def _whole(place: Path, variant: Variant, folder: Path) -> Path:
    """The model, with its weights beside it."""
    if not variant.shared_weights:
        return place / variant.model
    model = folder / variant.name / "model.onnx"
    for name, source in {"model.onnx": variant.model, **variant.external_data}.items():
        target = model.parent / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(place / source, target)
        except OSError:  # another file system, or one without links
            shutil.copyfile(place / source, target)
    return model

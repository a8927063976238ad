"""No model file gets its name before it was run and compared: making, proving and naming in one step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from exporters import torch_onnx
from exporters.artifact import Artifact
from exporters.atomic_file import staged
from toolchain.accuracy import parity
from toolchain.accuracy.gate import Verdict
from toolchain.accuracy.parity import Parity
from toolchain.conversion.search import Plan
from toolchain.errors import BadUsage
from toolchain.inputs.samples import Samples

Arrays = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, kw_only=True)
class Proven:
    """A model file under its final name, and the comparison that it passed on ``proven_on``.

    ``verdict`` is the accuracy gate's, where there was something to judge by; ``plan`` says which nodes had to stay in
    float for it, where they were searched for; ``judged_on`` are the samples.
    """

    artifact: Artifact
    parity: Parity
    proven_on: str
    verdict: Verdict | None = None
    plan: Plan | None = None
    judged_on: Samples | None = field(default=None, repr=False)


def export(
    module: torch.nn.Module,
    dst: Path,
    *,
    inputs: Arrays,
    output_names: Sequence[str],
    opset: int,
    facts: Mapping[str, str],
    proven_on: str,
) -> Proven:
    """Export ``module`` to ``dst``; ``inputs`` ``(S, ...)``, in forward()'s order, show its shapes and prove it."""
    examples = {name: torch.from_numpy(np.ascontiguousarray(array[:2])) for name, array in inputs.items()}
    with staged(dst) as candidate:
        artifact = torch_onnx.export(
            module, candidate, example_inputs=examples, output_names=output_names, opset=opset, facts=facts
        )
        compared = parity.check_export(candidate, module, inputs)
    return Proven(artifact=replace(artifact, path=dst), parity=compared, proven_on=proven_on)


def convert(
    src: Path,
    dst: Path,
    *,
    precision: str,
    make: Callable[[Path], Artifact],
    inputs: Arrays,
    proven_on: str,
) -> Proven:
    """Let ``make`` write ``src``'s version in ``precision``, compare the two on ``inputs``, and name it ``dst``."""
    refuse_same(src, dst)
    with staged(dst) as candidate:
        artifact = make(candidate)
        compared = parity.check_conversion(candidate, src, inputs, precision=precision)
    return Proven(artifact=replace(artifact, path=dst), parity=compared, proven_on=proven_on)


def refuse_same(src: Path, dst: Path) -> None:
    """Raise BadUsage when a conversion would overwrite its input."""
    if dst.resolve() == src.resolve():
        raise BadUsage("The output is the input file.", "Choose another --output.")

"""From what a user names to the smallest part of it that fails, and a file that shows that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolchain.bisection import repro
from toolchain.bisection.finding import Finding
from toolchain.bisection.repro import Maker
from toolchain.bisection.search import Search
from toolchain.conversion import exporting
from toolchain.conversion.target import Target
from toolchain.inputs import models, sources
from toolchain.inputs.examples import Example
from toolchain.progress import SILENT, Progress
from toolchain.training.given_weights import Weights
from toolchain.user_code import loading

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Bisected:
    """What came of a model: the ``finding``, None where nothing fails, and what is to be said of the model itself."""

    finding: Finding | None
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Lines for a person."""
        found = self.finding.text if self.finding else "Nothing fails: the file of the whole model agrees with PyTorch."
        return "\n".join([found, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return {"finding": None if self.finding is None else self.finding.to_json(), "notes": list(self.notes)}


def bisect_named(
    model: str,
    path: Path,
    *,
    arguments: Mapping[str, Any],
    weights: Weights | None,
    input_specs: Sequence[str],
    input_data: str | None,
    target: Target,
    progress: Progress,
) -> Bisected:
    """:func:`bisect` what a user named (see :func:`models.named`), on the inputs given."""
    repro.require_free(path)
    made = exporting.named(model, arguments, weights, progress)
    maker = None
    if sources.is_code(model) and weights is None:
        place, _, name = model.rpartition(":")
        if (file := loading.loaded(place).__file__) is not None:
            maker = Maker(file=Path(file), name=name, arguments=arguments)
    with made.surroundings():
        example = models.example_of(made, input_specs, input_data)
        return bisect(made.module, example, path, target=target, maker=maker, progress=progress)


def bisect(
    module: "torch.nn.Module",
    example: Example,
    path: Path,
    *,
    target: Target,
    maker: Maker | None = None,
    progress: Progress = SILENT,
) -> Bisected:
    """The smallest module in ``module`` that fails as an export on ``example``, and ``path``, which shows it.

    ``path`` is written where a fault is found that shows in a process without nnx, and is left alone otherwise;
    ``maker`` is the user's file, for modules that cannot be cut out of theirs. Raises BadUsage where ``module`` does
    not run on ``example``, and for a ``path`` that is a file of the user's.
    """
    repro.require_free(path)
    search = Search(module, example, target, progress=progress)
    tried, finding = search.run()
    if finding is not None and tried is not None:
        progress.note(f"A file that shows it is tried{f': {finding.module}' if finding.module else ''}.")
        reason = repro.write(tried, finding, path, opset=target.opset, maker=maker)
        finding = replace(finding, no_repro=reason, repro=None if reason else path)
    return Bisected(finding=finding, notes=search.notes)

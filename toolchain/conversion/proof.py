"""No model file gets its name before it was run and compared; this is the record of it."""

from dataclasses import dataclass, field
from functools import cached_property

from exporters.artifact import Artifact
from exporters.model_file import ModelFile
from toolchain.accuracy.comparison import Comparison
from toolchain.accuracy.gate import Verdict
from toolchain.conversion.record import Plan
from toolchain.inputs.samples import Samples


@dataclass(frozen=True, kw_only=True)
class Proven:
    """A model file under its final name, and the comparison that it passed on ``proven_on``.

    ``verdict`` is the accuracy gate's, where there was something to judge by; ``plan`` says which nodes had to stay in
    float for it, where they were searched for; ``judged_on`` are the samples.
    """

    artifact: Artifact
    parity: Comparison
    proven_on: str
    verdict: Verdict | None = None
    plan: Plan | None = None
    judged_on: Samples | None = field(default=None, repr=False)

    @cached_property
    def file(self) -> ModelFile:
        """The file, opened."""
        return ModelFile(self.artifact.path)

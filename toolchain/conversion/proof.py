"""No model file gets its name before it was run and compared; this is the record of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from exporters.artifact import Artifact
from exporters.model_file import ModelFile
from toolchain.accuracy.comparison import Comparison
from toolchain.accuracy.gate import Verdict
from toolchain.conversion.record import Plan
from toolchain.inputs.samples import Samples


@dataclass(frozen=True, kw_only=True)
class Rests:
    """The samples of a proof: ``inputs`` gives the shape of each input's, the first axis counting them.

    ``real`` and ``samples`` are None of an export, which says it in ``source``.
    """

    source: str
    real: bool | None = None
    samples: int | None = None
    inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.samples is None:
            return self.source
        shapes = ", ".join(f"{name} {list(shape[1:])}" for name, shape in self.inputs.items())
        unreal = "" if self.real else ", no real data: what real inputs do is not proven"
        return f"{self.source} ({self.samples:,} sample{'s' if self.samples > 1 else ''} of {shapes}{unreal})"


@dataclass(frozen=True, kw_only=True)
class Proven:
    """A model file under its final name, and the comparison that it passed on ``proven_on``.

    ``verdict`` is the accuracy gate's, where there was something to judge by; ``plan`` says which nodes had to stay in
    float for it, where they were searched for; ``judged_on`` are the samples. ``source_bytes`` are the original's, with
    its external data; 0 of an export, which has none.
    """

    artifact: Artifact
    parity: Comparison
    proven_on: str
    verdict: Verdict | None = None
    plan: Plan | None = None
    judged_on: Samples | None = field(default=None, repr=False)
    source_bytes: int = 0

    @property
    def grown(self) -> str:
        """A sentence about a file that is larger than what it was made of; empty for others."""
        after = self.artifact.size_bytes
        if not 0 < self.source_bytes < after:
            return ""
        return f"It is LARGER than the original: {self.source_bytes:,} -> {after:,} bytes."

    @property
    def rests_on(self) -> Rests:
        """What it was run on, and whether that was real."""
        given = self.judged_on
        if given is None:
            return Rests(source=self.proven_on)
        return Rests(source=self.proven_on, real=given.real, samples=len(given), inputs=given.shapes)

    @cached_property
    def file(self) -> ModelFile:
        """The file, opened."""
        return ModelFile(self.artifact.path)

"""What the steps of a run came to, as the manifest keeps it."""

from dataclasses import dataclass

from toolchain.accuracy.metrics.metric import Measure
from toolchain.conversion.proof import Proven
from toolchain.training.record import Epoch, told


@dataclass(frozen=True, kw_only=True)
class TrainStep:
    """A training; scores are those of ``measure``."""

    epochs: tuple[Epoch, ...]
    seconds: float
    switched_on: tuple[str, ...]
    measure: Measure
    validation_score: float | None
    test_score: float | None

    @property
    def test_text(self) -> str:
        """Such as "accuracy 98.50%"."""
        return f"{self.measure.title} {told(self.measure, self.test_score)}"

    def __str__(self) -> str:
        return f"test {self.test_text}, {len(self.epochs)} epochs, {self.seconds:.0f} s"


@dataclass(frozen=True, kw_only=True)
class ModelStep:
    """A model file; ``parity``, and ``verdict`` if it was judged by labels, are sentences."""

    precision: str
    size_bytes: int
    opset: int
    parity: str
    verdict: str | None = None

    def __str__(self) -> str:
        return f"{self.size_bytes / 1e6:.3f} MB; {self.parity}"

    @classmethod
    def of(cls, made: Proven) -> "ModelStep":
        artifact = made.artifact
        return cls(
            precision=artifact.precision,
            size_bytes=artifact.size_bytes,
            opset=artifact.opset,
            parity=str(made.parity),
            verdict=None if made.verdict is None else made.verdict.text,
        )


@dataclass(frozen=True, kw_only=True)
class Said:
    """A step of which nothing but a sentence is needed later: the rest is in its file."""

    text: str

    def __str__(self) -> str:
        return self.text

"""What the steps of a run came to, as the manifest keeps it."""

from dataclasses import asdict, dataclass
from typing import Any

from toolchain.conversion.proof import Proven
from toolchain.training.record import Epoch


@dataclass(frozen=True, kw_only=True)
class TrainStep:
    """A training; accuracies are shares."""

    epochs: tuple[Epoch, ...]
    seconds: float
    switched_on: tuple[str, ...]
    validation_accuracy: float
    test_accuracy: float

    def __str__(self) -> str:
        return f"test accuracy {self.test_accuracy:.2%}, {len(self.epochs)} epochs, {self.seconds:.0f} s"

    def facts(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, facts: dict[str, Any]) -> "TrainStep":
        """Read what :meth:`facts` gave."""
        epochs = tuple(Epoch(**epoch) for epoch in facts["epochs"])
        return cls(**{**facts, "epochs": epochs, "switched_on": tuple(facts["switched_on"])})


@dataclass(frozen=True)
class Said:
    """A step of which nothing but a sentence is needed later: the rest is in its file."""

    text: str

    def __str__(self) -> str:
        return self.text

    def facts(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, facts: dict[str, Any]) -> "Said":
        """Read what :meth:`facts` gave."""
        return cls(**facts)


@dataclass(frozen=True, kw_only=True)
class ModelStep:
    """A model file; ``parity`` and ``verdict``, if it was judged by labels, are sentences."""

    precision: str
    size_bytes: int
    opset: int
    parity: str
    verdict: str | None = None

    def __str__(self) -> str:
        return f"{self.size_bytes / 1e6:.3f} MB; {self.parity}"

    def facts(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def made(cls, made: Proven) -> "ModelStep":
        artifact = made.artifact
        return cls(
            precision=artifact.precision,
            size_bytes=artifact.size_bytes,
            opset=artifact.opset,
            parity=str(made.parity),
            verdict=None if made.verdict is None else made.verdict.text,
        )

    @classmethod
    def of(cls, facts: dict[str, Any]) -> "ModelStep":
        """Read what :meth:`facts` gave."""
        return cls(**facts)

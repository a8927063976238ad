"""The record of one model file."""

from dataclasses import dataclass
from pathlib import Path

from exporters.atomic_file import sha256_of


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One ``.onnx`` file as it lies on disk.

    ``parent_sha256`` is the SHA-256 of the file it was made from (None for an export from PyTorch);
    ``notes`` are sentences for the user about choices that the step made.
    """

    path: Path
    precision: str
    opset: int
    size_bytes: int
    sha256: str
    parent_sha256: str | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        path: Path,
        *,
        precision: str,
        opset: int,
        parent_sha256: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> "Artifact":
        """Measure the file at ``path``."""
        return cls(
            path=path,
            precision=precision,
            opset=opset,
            size_bytes=path.stat().st_size,
            sha256=sha256_of(path),
            parent_sha256=parent_sha256,
            notes=notes,
        )

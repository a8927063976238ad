"""The record of one model file that nnx made."""

from dataclasses import dataclass, replace
from pathlib import Path

from exporters import external_data
from exporters.model_file import ModelFile


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

    def placed(self, path: Path) -> "Artifact":
        """The same at ``path``, to where it was renamed; measured anew where weights beside it were renamed too."""
        if external_data.data_of(path) is None:
            return replace(self, path=path)
        file = ModelFile(path)
        return replace(self, path=path, size_bytes=file.size_bytes, sha256=file.sha256)

    @classmethod
    def of(
        cls,
        file: ModelFile,
        *,
        precision: str,
        parent_sha256: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> "Artifact":
        """Measure ``file``."""
        return cls(
            path=file.path,
            precision=precision,
            opset=file.opset,
            size_bytes=file.size_bytes,
            sha256=file.sha256,
            parent_sha256=parent_sha256,
            notes=notes,
        )

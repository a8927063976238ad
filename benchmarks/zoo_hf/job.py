"""The work of this zoo in a process of its own: :mod:`benchmarks.pieces` opens it."""

from benchmarks.hard import runs
from benchmarks.kept_rows import Row
from benchmarks.zoo_hf import judging, report
from benchmarks.zoo_hf.types import TYPES


class Job:
    """Judges what nnx or transformers makes of a type."""

    def __init__(self) -> None:
        runs.warm(exporter=True)
        import transformers.exporters.exporter_onnx  # noqa: F401 - so that forked processes need not

    def rows(self, piece: tuple[str, str]) -> list[Row]:
        """The one of a type's name and an exporter's."""
        name, exporter = piece
        kind = next(each for each in TYPES if each.name == name)
        row = judging.judged(kind, by_transformers=exporter == report.OTHER)
        return [{"name": f"{name} by {exporter}", "type": name, "exporter": exporter, **row}]


open_job = Job

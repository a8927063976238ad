"""The zoo's work in a process of its own: :mod:`benchmarks.pieces` opens it."""

from benchmarks.hard import runs
from benchmarks.hard.runs import Place
from benchmarks.zoo import road
from benchmarks.zoo.architectures import ARCHITECTURES
from benchmarks.zoo.road import Row


class Job:
    """Brings architectures along the road; no command takes longer than ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        runs.warm(exporter=True)

    def rows(self, piece: str) -> list[Row]:
        """Those of the architecture with that name."""
        architecture = next(each for each in ARCHITECTURES if each.name == piece)
        with Place.new() as place:
            return list(road.along(architecture, place, seconds=self._seconds))


open_job = Job

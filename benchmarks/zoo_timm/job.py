"""The work of this zoo in a process of its own: :mod:`benchmarks.pieces` opens it."""

from pathlib import Path

import torch

from benchmarks.hard import runs
from benchmarks.zoo_timm import environment, judging
from benchmarks.zoo_timm.judging import Row
from toolchain.errors import NotAvailable


class Job:
    """Judges models of the timm that lies in ``folder``; none takes longer than ``seconds``."""

    def __init__(self, folder: str, seconds: float) -> None:
        torch.set_num_threads(1)  # a process that is forked from one whose OpenMP has run cannot use it
        self._seconds = seconds
        if why := environment.bring(Path(folder)):
            raise NotAvailable(why, "See how `make zoo-timm` fetches it.")
        runs.warm(exporter=True)

    def rows(self, piece: str) -> list[Row]:
        """The one of the model with that name."""
        return [judging.of_model(piece, seconds=self._seconds)]


open_job = Job

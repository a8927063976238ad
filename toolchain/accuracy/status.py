"""What became of a model file or a benchmark's row."""

from enum import StrEnum


class Status(StrEnum):
    """``OK`` is proven; ``UNDECIDED``: the samples are too few to tell; ``UNPROVEN``: shown not to keep what it must.

    ``FAILED`` did not run: it crashed or was refused; ``UNAVAILABLE`` is not to be had on this machine.
    """

    OK = "ok"
    UNDECIDED = "undecided"
    UNPROVEN = "unproven"
    FAILED = "failed"
    UNAVAILABLE = "unavailable"

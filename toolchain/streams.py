"""stdout carries results alone, whoever else prints; and whoever reads our output may leave when they like."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

_results: TextIO | None = None


def results() -> TextIO:
    """Where results go: the stdout that the command was started with."""
    return _results or sys.stdout


@contextlib.contextmanager
def results_alone() -> Iterator[None]:
    """In this block stdout belongs to :func:`results`; whatever else is written to it comes out on stderr.

    That holds for what Python prints, for C code that writes to descriptor 1, and for child processes.
    """
    global _results
    given, kept = sys.stdout, os.dup(1)
    given.flush()
    # a stream that does not lead to descriptor 1, as in tests, is not in anybody's way
    _results = _patient(given, os.dup(1), owned=True) if _descriptor(given) == 1 else given
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        if _results is not given:
            _results.close()
        os.dup2(kept, 1)
        os.close(kept)
        sys.stdout, _results = given, None


@contextlib.contextmanager
def handed_on() -> Iterator[None]:
    """Processes that are started in this block print results of their own, where this one would."""
    number = _descriptor(results())
    if number is None:
        yield
        return
    before = os.dup(1)
    os.dup2(number, 1)
    try:
        yield
    finally:
        os.dup2(before, 1)
        os.close(before)


def answers_alone() -> TextIO:
    """Stdout, for a process that answers on it; from now on whatever else is printed comes out on stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def ready() -> None:
    """See to it that no print fails, before or after the work is done.

    A character that a stream's encoding lacks becomes "?". A stream that is closed, which Python has as None, goes
    nowhere, and no file that is opened later gets its number. So does one whose reader has left.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # stays open
    os.close(number)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - like its kind
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
        setattr(sys, name, _patient(stream, number) if _descriptor(stream) == number else stream)


def end_results() -> None:
    """No result follows: what C code has buffered, and what is printed while the process ends, goes to stderr."""
    os.dup2(2, 1)


class _PatientFile(io.FileIO):
    """A file whose reader may leave: what is written from then on goes nowhere."""

    def write(self, data: Any) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except ConnectionError:  # a pipe's or a socket's
            number = self.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number, inheritable=os.get_inheritable(number))
            os.close(nowhere)
            return memoryview(data).nbytes


def _patient(stream: TextIO, number: int, *, owned: bool = False) -> TextIO:
    """What ``stream`` is, over descriptor ``number``, with patience; ``owned`` closes the descriptor with it."""
    buffer = stream.buffer
    if not isinstance(getattr(buffer, "raw", buffer), io.FileIO):  # a Windows console, which nobody leaves
        return open(number, "w", encoding=stream.encoding, errors="replace", closefd=owned)
    file = io.BufferedWriter(_PatientFile(number, "w", closefd=owned))
    return io.TextIOWrapper(
        file, stream.encoding, errors="replace", line_buffering=True, write_through=not hasattr(buffer, "raw")
    )


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):  # it has none, or is closed
        return None

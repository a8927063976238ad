"""What a run amounts to: right, refused, wrong or a fault, and why."""

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.hard.runs import Run

_RAW = re.compile(
    r"\x1b\[|\[[WEF]:onnxruntime|Skipped deduplication|^[EWIF]\d{8} |^WARNING:root|\w+Warning: ", re.MULTILINE
)
_REFUSALS = {1, 2, 3, 4}


class Kind(StrEnum):
    """Refused: with a sentence and the exit code for it. Wrong: a success that is none. Fault: 70, a signal, a hang."""

    RIGHT = "right"
    REFUSED = "refused"
    WRONG = "wrong"
    FAULT = "fault"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One command on one input."""

    part: str
    name: str
    kind: Kind
    why: str
    command: str
    seconds: float = 0.0
    peak_bytes: int = 0


def of(run: Run, *, part: str, name: str, judge: Callable[[], str] | None = None, made: bool = False) -> Verdict:
    """The verdict on ``run``; ``judge`` says what is wrong with what it made, "" for nothing.

    ``made``: its file lies there, which a refusal must not leave.
    """
    kind, why = Kind.FAULT, _fault(run)
    if not why and run.code in _REFUSALS:
        kind, why = Kind.REFUSED, f"{run.code}: {_sentence(run.err)}"
        if made and run.code != 4:  # undecided leaves what it made
            kind, why = Kind.FAULT, f"exit code {run.code}, and yet the file lies there: {_sentence(run.err)}"
    elif not why:
        why = judge() if judge is not None else ""
        kind = Kind.WRONG if why else Kind.RIGHT
    return Verdict(
        part=part, name=name, kind=kind, why=why, command=run.command, seconds=run.seconds, peak_bytes=run.peak_bytes
    )


def _fault(run: Run) -> str:
    """What no command may do, whatever it was given; "" where it did none of it."""
    if run.stopped == "time":
        return f"hangs: longer than {run.seconds:.0f} s"
    if run.stopped == "memory" or run.peak_bytes > run.memory_bytes:
        return f"memory: more than {run.memory_bytes >> 30} GB"
    if run.code < 0:
        return f"signal {signal.Signals(-run.code).name}"
    if run.code == 70 or run.traceback_end:
        return f"exit code {run.code}: {run.traceback_end}"
    if run.code not in {0, *_REFUSALS}:
        return f"exit code {run.code}"
    if raw := _RAW.search(run.err):
        line = run.err[run.err.rfind("\n", 0, raw.start()) + 1 :].splitlines()[0]
        return f"a library's own line on stderr: {line[:160]!r}"
    if run.code and not _sentence(run.err):
        return f"exit code {run.code} without a word"
    if run.changed:
        return f"changed {', '.join(run.changed)}"
    return f"left {', '.join(run.left)}" if run.left else ""


def _sentence(err: str) -> str:
    """What nnx says about the error: all from "nnx:" or click's "Error:" on."""
    lines = err.splitlines()
    start = next((k for k, line in enumerate(lines) if line.startswith(("nnx:", "Error:"))), None)
    return "" if start is None else " ".join(line.strip() for line in lines[start:])[:400]

"""``--timeout``: a command that takes too long is ended from outside, wherever it hangs, with all that it started.

A run of a model, a regular expression and a decoder hold the interpreter for as long as they like, so no timer inside
the process can end them: it goes on as the child of one that waits.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType

import click

from toolchain.cli import crash_watch
from toolchain.errors import NotAvailable

_LOOK_EVERY_S = 0.05
_TO_TIDY_UP_S = 3.0
_FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP")


@contextlib.contextmanager
def within(limit_s: float | None, context: click.Context) -> Iterator[None]:
    """Run the block, which then is a child process, for at most that long.

    In the parent, which does not run it, this ends the command with the child's exit code; NotAvailable when the time
    is over, the child and what it started are gone, and so are its temporary files.
    """
    if limit_s is None:
        yield
        return
    if not hasattr(os, "fork"):
        raise NotAvailable("--timeout is not to be had on this system.", "Leave it out.")
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    parent, child = os.getpid(), os.fork()
    if not child:
        from toolchain.processes.worker import die_with_parent

        os.setpgid(0, 0)  # what it starts is ended with it, and Ctrl-C comes from the parent alone
        die_with_parent(parent)
        yield
        return
    with contextlib.suppress(OSError):  # it may have done so itself, or be gone
        os.setpgid(child, child)
    with _forwarding(child) as forwarded:
        status = _waited(child, limit_s)
    if status is None:
        _end(child)
        crash_watch.tidy_up(context)
        raise NotAvailable(
            f"It took longer than the {limit_s:g} s of --timeout, and was ended; nothing was half-written.",
            "Allow it more time.",
        )
    raise click.exceptions.Exit(crash_watch.exit_code(status, context, ended_by=next(iter(forwarded), None)))


def _waited(child: int, limit_s: float) -> int | None:
    """How it ended; None where it has not."""
    end = time.monotonic() + limit_s
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if time.monotonic() >= end:
            return None
        time.sleep(_LOOK_EVERY_S)


def _end(child: int) -> None:
    """Let it tidy up if it can, then end whatever is left of it and of its children."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGTERM)
        ended = _waited(child, _TO_TIDY_UP_S) is not None
        os.killpg(child, signal.SIGKILL)
        if not ended:
            os.waitpid(child, 0)


@contextlib.contextmanager
def _forwarding(child: int) -> Iterator[list[int]]:
    """What would interrupt or end us goes to the child, whose end we wait for; gives the numbers of what came."""
    came: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        came.append(number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    numbers = [getattr(signal, name) for name in _FORWARDED]
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

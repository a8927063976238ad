"""A command that libraries or the kernel may end without a word, for want of memory, is watched by a parent that tells.

Libraries do not look whether they got the memory that they asked for, and crash; what the kernel kills says nothing.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

import click

in_a_process_of_ours = False
"""Whether this process does nothing but one command; one that calls us as a library is never made two."""

_CRASHES = {"SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE"}
_MUCH = 0.5


@contextlib.contextmanager
def within(context: click.Context) -> Iterator[None]:
    """Run the block in a child process, which gets the signals that this one gets.

    In the parent, which does not run it, this ends the command with the child's exit code; it raises NotAvailable
    where the child was killed, or crashed with much of the memory in use. Does nothing where there are no such signals.
    """
    if not in_a_process_of_ours or not hasattr(signal, "sigwaitinfo"):
        yield
        return
    from toolchain.machine import memory_limit

    there_are = memory_limit.bytes_there_are()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a shell may have it ignored
    heard = {signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    parent, before = os.getpid(), signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    child = os.fork()
    if not child:
        from toolchain.processes.worker import die_with_parent

        die_with_parent(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield
        return
    try:
        status, peak, ended_by = _waited(child, heard)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    raise click.exceptions.Exit(exit_code(status, context, peak=peak, there_are=there_are, ended_by=ended_by))


def _waited(child: int, heard: set[signal.Signals]) -> tuple[int, int, int | None]:
    """How it ended, the most memory that it held, and the first signal that was to end it."""
    ended_by = None
    while True:
        told = signal.sigwaitinfo(heard)
        if told.si_signo != signal.SIGCHLD:
            ended_by = ended_by or told.si_signo
            if told.si_code <= 0:  # a process's; what a terminal sends, it sends to the child too
                os.kill(child, told.si_signo)
            continue
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            return status, usage.ru_maxrss * 1024, ended_by  # Linux counts kilobytes


def exit_code(
    status: int, context: click.Context, *, peak: int = 0, there_are: int | None = None, ended_by: int | None = None
) -> int:
    """That of a child process which ended so, and of which nothing half-written is left.

    One that crashed after the signal ``ended_by`` came was ended by it, which libraries take for a fault of theirs.
    Raises NotAvailable for one that was killed, or that crashed with much of the memory in use.
    """
    from toolchain.console import print_error
    from toolchain.errors import ExitCode, NotAvailable

    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code
    tidy_up(context)
    if ended_by is not None:
        return 128 + ended_by
    name, do = signal.Signals(-code).name, "Give it less data, a smaller model, or a machine with more memory."
    if name == "SIGKILL":
        raise NotAvailable("It was killed, most likely for want of memory.", do)
    if name not in _CRASHES:
        return 128 - code
    if there_are is not None and peak >= _MUCH * there_are:
        held = f"{peak / 1e9:.1f} of {there_are / 1e9:.1f} GB in use"
        raise NotAvailable(f"A library crashed ({name}) with {held}, most likely for want of memory.", do)
    print_error(f"A library crashed ({name}).", "Report it with the command and the model.")
    return ExitCode.BUG


def tidy_up(context: click.Context) -> None:
    """Remove the half-written files of a child that could not do it itself."""
    from pathlib import Path  # here: every command, --help too, loads this file

    from exporters.atomic_file import remove_leftovers

    named = [value for value in context.params.values() if isinstance(value, Path)]
    folders = {path if path.is_dir() else path.parent for path in named} | set(Path("artifacts").glob("*/"))
    for folder in folders:
        remove_leftovers(folder)

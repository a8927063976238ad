"""What a command ends with whose child was ended, or crashed, on a signal that was to end it."""

import os
import signal
import subprocess
import sys

import click
import pytest

from toolchain.cli import crash_watch
from toolchain.errors import ExitCode, NotAvailable

CONTEXT = click.Context(click.Command("none"))
HEARD = {signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_crash_on_a_signal_is_that_signals(number: signal.Signals) -> None:
    assert crash_watch.exit_code(signal.SIGABRT, CONTEXT) == ExitCode.BUG
    assert crash_watch.exit_code(signal.SIGABRT, CONTEXT, ended_by=number) == 128 + number
    assert crash_watch.exit_code(signal.SIGKILL, CONTEXT, ended_by=number) == 128 + number
    with pytest.raises(NotAvailable, match="was killed"):
        crash_watch.exit_code(signal.SIGKILL, CONTEXT)
    assert crash_watch.exit_code(ExitCode.UNDECIDED << 8, CONTEXT, ended_by=number) == ExitCode.UNDECIDED


COMMAND = """
import click, os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's & and nohup leave ignored
signal.signal(signal.SIGHUP, signal.SIG_DFL)
import toolchain.cli as cli

@click.command()
def plain():
    try:
        os.kill(os.getpid(), signal.{name})
        time.sleep(9)
    except KeyboardInterrupt:
        raise {error}  # as a library makes of it

cli.nnx.get_command = lambda context, name: plain
sys.argv = ["nnx", "plain"]
cli.main()
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
@pytest.mark.parametrize("error", ["KeyboardInterrupt from None", "click.Abort"])
def test_which_signal_it_was_is_known_whatever_a_library_makes_of_it(name: str, code: int, error: str) -> None:
    given = [sys.executable, "-c", COMMAND.format(name=name, error=error)]
    ended = subprocess.run(given, capture_output=True, text=True, check=False, env={**os.environ}, timeout=60)
    assert ended.returncode == code, ended.stderr
    assert ("interrupted" in ended.stderr) == (name == "SIGINT")

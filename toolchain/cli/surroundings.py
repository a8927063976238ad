"""What every command runs in: stdout for results alone, temporary files of its own, limits, outputs looked at first."""

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from toolchain import memory_budget, streams
from toolchain.cli import crash_watch, time_limit, types

_TIME_LIMIT = "time_limit"
_LIMITED = {"convert", "quantize", "explain", "tune"}
"""What may take no more memory than there is; the others that convert see to it themselves, step by step."""
_WATCHED = _LIMITED | {"run", "export"}
_COMPILED = "TORCHINDUCTOR_CACHE_DIR"
"""Where torch.compile keeps what it made, by default below the folder for temporary files."""


_SEVERAL = {"train"}
"""What torchrun may start several times, to work together."""


def add_to(command: click.Command) -> click.Command:
    """``command`` with them, and with --timeout where it has none of its own."""
    callback = command.callback
    if callback is None:
        return command
    if not any("--timeout" in parameter.opts for parameter in command.params):
        command.params = [*command.params, _option()]

    @functools.wraps(callback)
    def run(*arguments: Any, **given: Any) -> Any:
        limit_s = given.pop(_TIME_LIMIT, None)
        context = click.get_current_context()
        if "TORCHELASTIC_RUN_ID" in os.environ and context.info_name not in _SEVERAL:
            raise click.UsageError("torchrun starts it several times over, in the same folder: run it alone.")
        with _folder(), _watched(limit_s, context), streams.results_alone(), _silent_libraries(), _memory(context):
            from toolchain.cli import outputs

            outputs.look_at_all(context)
            before = memory_budget.BYTES.set(context.params.get("memory_budget") or memory_budget.BYTES.get())
            try:
                return callback(*arguments, **given)
            finally:
                memory_budget.BYTES.reset(before)

    command.callback = run
    return command


def _option() -> click.Option:
    return click.Option(
        ["--timeout", _TIME_LIMIT], type=types.Duration(), help="Give up after this long, whatever goes on."
    )


def _watched(limit_s: float | None, context: click.Context) -> contextlib.AbstractContextManager[None]:
    """Somebody who waits for the command's end, where it may not tell of it itself."""
    if limit_s is None and context.info_name in _WATCHED:
        return crash_watch.within(context)
    return time_limit.within(limit_s, context)


def _memory(context: click.Context) -> contextlib.AbstractContextManager[None]:
    from toolchain.machine import memory_limit

    return memory_limit.held() if context.info_name in _LIMITED else contextlib.nullcontext()


@contextlib.contextmanager
def _folder() -> Iterator[None]:
    """Temporary files go into a folder that goes too, but for what torch.compile keeps for the next time."""
    import getpass
    import re
    import tempfile

    from exporters import temporary_folder

    kept = os.environ.get(_COMPILED)
    if kept is None:
        with contextlib.suppress(KeyError, OSError):  # no such user, no folder for temporary files
            user = re.sub(r'[\\/:*?"<>|]', "_", getpass.getuser())
            os.environ[_COMPILED] = str(Path(tempfile.gettempdir()) / f"torchinductor_{user}")
    try:
        with temporary_folder.own():
            yield
    finally:
        if kept is None:
            os.environ.pop(_COMPILED, None)


@contextlib.contextmanager
def _silent_libraries() -> Iterator[None]:
    """What libraries log and warn of is no message of ours, unless the user asked Python for warnings."""
    import logging
    import warnings

    nobody = logging.NullHandler()
    logging.root.addHandler(nobody)  # without one Python prints warnings on stderr, and logging.warning() installs one
    try:
        if sys.warnoptions:
            yield
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
    finally:
        logging.root.removeHandler(nobody)

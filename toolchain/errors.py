"""Exit codes, and which errors are a user's to fix.

NnxError
├── BadUsage      wrong option or input            exit 2
├── CheckFailed   parity, accuracy or regression   exit 1
├── Undecided     too few samples to tell          exit 4
└── NotAvailable  not to be had on this machine    exit 3
"""

import errno
from enum import IntEnum

from exporters import errors as exporting
from runtimes import errors as running


class ExitCode(IntEnum):
    """What ``nnx`` returns to the shell."""

    DONE = 0
    CHECK_FAILED = 1
    BAD_USAGE = 2
    NOT_AVAILABLE = 3
    UNDECIDED = 4
    BUG = 70
    INTERRUPTED = 130


class NnxError(Exception):
    """A failure that a user can act on: ``what`` happened, and what to ``do``, one sentence each."""

    def __init__(self, what: str, do: str) -> None:
        super().__init__(what)
        self.what = what
        self.do = do


class BadUsage(NnxError):
    """A wrong option, a missing or unfit input, an output that cannot be written."""


class CheckFailed(NnxError):
    """What was made did not pass: parity, accuracy, a regression."""


class Undecided(NnxError):
    """What was made neither passed nor failed: the samples are too few to tell."""


class NotAvailable(NnxError):
    """What was asked for is not to be had on this machine."""


_CODES: dict[type[Exception], ExitCode] = {
    BadUsage: ExitCode.BAD_USAGE,
    CheckFailed: ExitCode.CHECK_FAILED,
    Undecided: ExitCode.UNDECIDED,
    NotAvailable: ExitCode.NOT_AVAILABLE,
    exporting.WrongResult: ExitCode.CHECK_FAILED,
    exporting.ExporterError: ExitCode.BAD_USAGE,
    running.ProviderUnavailable: ExitCode.NOT_AVAILABLE,
    running.RunFailed: ExitCode.CHECK_FAILED,
    running.RuntimesError: ExitCode.BAD_USAGE,
}

_EXTRAS = {"onnxruntime": "cpu", "sklearn": "recipes", "PIL": "recipes", "altair": "report", "vl_convert": "report"}
_DISK_ERRORS = {
    errno.ENOSPC: ("The disk is full", "Free some space, then run it again", ExitCode.NOT_AVAILABLE),
    errno.EDQUOT: ("The disk quota is used up", "Free some space, then run it again", ExitCode.NOT_AVAILABLE),
    errno.EACCES: (
        "There is no permission",
        "Choose another folder, or mend its permissions",
        ExitCode.BAD_USAGE,
    ),
    errno.EPERM: (
        "It is not permitted",
        "Choose another folder, or mend its permissions",
        ExitCode.BAD_USAGE,
    ),
    errno.EROFS: ("The file system is read-only", "Choose another folder", ExitCode.BAD_USAGE),
    errno.ENOTDIR: ("A part of the path is a file", "Choose another folder", ExitCode.BAD_USAGE),
    errno.EISDIR: ("The path is a folder", "Name a file inside it", ExitCode.BAD_USAGE),
}


def explain(error: BaseException) -> tuple[str, str, ExitCode] | None:
    """What happened, what to do, and the exit code; None for an error that is not a user's to fix, that is, a bug."""
    if isinstance(error, (NnxError, exporting.ExporterError, running.RuntimesError)):
        code = next(code for kind, code in _CODES.items() if isinstance(error, kind))
        return error.what, error.do, code
    if isinstance(error, ModuleNotFoundError) and error.name in _EXTRAS:
        install = f"pip install 'nnx-toolchain[{_EXTRAS[error.name]}]'"
        return f"This needs {error.name}, which is not installed.", f"{install}.", ExitCode.NOT_AVAILABLE
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        what, do, code = _DISK_ERRORS[error.errno]
        where = f": {error.filename}" if error.filename else ""
        return f"{what}{where}.", f"{do}.", code
    return None

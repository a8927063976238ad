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
from exporters.atomic_file import with_final_names
from exporters.errors import Origin, causes
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
    """What was made did not pass: parity, accuracy, a regression.

    ``origin`` is what in a user's code it is about, where that is known.
    """

    def __init__(self, what: str, do: str, origin: Origin | None = None) -> None:
        super().__init__(what, do)
        self.origin = origin


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
    exporting.NotApplicable: ExitCode.CHECK_FAILED,
    exporting.ExporterError: ExitCode.BAD_USAGE,
    running.ProviderUnavailable: ExitCode.NOT_AVAILABLE,
    running.RunFailed: ExitCode.CHECK_FAILED,
    running.RuntimesError: ExitCode.BAD_USAGE,
}

_EXTRAS = {
    "onnxruntime": "cpu", "sklearn": "recipes", "PIL": "recipes", "altair": "report", "vl_convert": "report",
    "cryptography": "sign", "model_signing": "sign", "OpenSSL": "sign", "uvicorn": "serve", "httptools": "serve",
    "datasets": "datasets", "ray": "ray",
}  # fmt: skip
_SPACE, _FOLDER = "Free some space, then run it again", "Choose another folder, or mend its permissions"
_SYSTEM_ERRORS = {
    errno.ENOSPC: ("The disk is full", _SPACE, ExitCode.NOT_AVAILABLE),
    errno.EDQUOT: ("The disk quota is used up", _SPACE, ExitCode.NOT_AVAILABLE),
    errno.EFBIG: (
        "No file may become that large",
        "Raise `ulimit -f`, or choose another file system",
        ExitCode.NOT_AVAILABLE,
    ),
    errno.EIO: ("The disk fails", "Look at the system's log, or choose another disk", ExitCode.NOT_AVAILABLE),
    errno.EMFILE: ("Too many files are open", "Raise `ulimit -n`", ExitCode.NOT_AVAILABLE),
    errno.ENFILE: ("Too many files are open", "Close other programs", ExitCode.NOT_AVAILABLE),
    errno.ENOMEM: ("There is not enough memory", "Close other programs", ExitCode.NOT_AVAILABLE),
    errno.EAGAIN: ("The system has no more processes or locks", "Close other programs", ExitCode.NOT_AVAILABLE),
    errno.E2BIG: ("A command is too long for the system", "Choose shorter names", ExitCode.BAD_USAGE),
    errno.ENAMETOOLONG: ("A name is too long for the system", "Choose a shorter one", ExitCode.BAD_USAGE),
    errno.ELOOP: ("Links lead in a circle", "Mend the link", ExitCode.BAD_USAGE),
    errno.ENOENT: ("There is no such file or folder", "Look at its name", ExitCode.BAD_USAGE),
    errno.EEXIST: ("There is something of that name already", "Choose another one", ExitCode.BAD_USAGE),
    errno.EACCES: ("There is no permission", _FOLDER, ExitCode.BAD_USAGE),
    errno.EPERM: ("It is not permitted", _FOLDER, ExitCode.BAD_USAGE),
    errno.EROFS: ("The file system is read-only", "Choose another folder", ExitCode.BAD_USAGE),
    errno.ENOTDIR: ("A part of the path is a file", "Choose another folder", ExitCode.BAD_USAGE),
    errno.EISDIR: ("The path is a folder", "Name a file inside it", ExitCode.BAD_USAGE),
}
_OF_A_BUG = {errno.EBADF, errno.EINVAL, errno.EFAULT}
_NO_MEMORY = (
    "can't allocate memory", "out of memory", "bad_alloc", "Failed to allocate memory",  # PyTorch, ONNX Runtime
    "Arena alloc failed",  # protobuf that reads
    "cannot map zero-fill pages", "failed to map segment", "annot allocate memory",  # the loader of libraries
)  # fmt: skip
_NOT_ENOUGH = (
    "There is not enough memory.",
    "Use less data, a smaller batch or a larger machine.",
    ExitCode.NOT_AVAILABLE,
)


def explain(error: BaseException) -> tuple[str, str, ExitCode] | None:
    """What happened, what to do, and the exit code; None for an error that is not a user's to fix, that is, a bug."""
    if isinstance(error, (NnxError, exporting.ExporterError, running.RuntimesError)):
        code = next(code for kind, code in _CODES.items() if isinstance(error, kind))
        wants_memory = code is not ExitCode.NOT_AVAILABLE and any(_wants_memory(each) for each in causes(error))
        return _NOT_ENOUGH if wants_memory else (with_final_names(error.what), with_final_names(error.do), code)
    if isinstance(error, ModuleNotFoundError) and error.name in _EXTRAS:
        install = f"pip install 'nnx-toolchain[{_EXTRAS[error.name]}]'"
        return f"This needs {error.name}, which is not installed.", f"{install}.", ExitCode.NOT_AVAILABLE
    if isinstance(error, OSError):
        return _explain_system(error)
    if any(_wants_memory(each) for each in (error, *causes(error))):
        return _NOT_ENOUGH
    if isinstance(error, RecursionError):
        return "Something in the input is nested too deeply.", "Make it flatter.", ExitCode.BAD_USAGE
    if isinstance(error, UnicodeError):
        return "A name or a text in the input is not UTF-8.", "Rename or convert it.", ExitCode.BAD_USAGE
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        return "This user has no home folder.", "Set HOME to a folder.", ExitCode.NOT_AVAILABLE
    return None


def is_of_the_machine(error: BaseException) -> bool:
    """Whether it is the machine that fails, and not what is read: then no file is to blame."""
    if isinstance(error, OSError):
        return error.errno in _SYSTEM_ERRORS
    return _wants_memory(error)


def _wants_memory(error: BaseException) -> bool:
    """Whether a library did not get the memory that it asked for, which each says in its own way."""
    if isinstance(error, (MemoryError, OSError)):
        return isinstance(error, MemoryError) or error.errno == errno.ENOMEM
    try:
        told = str(error)[:4_000]
    except Exception:  # noqa: BLE001 - a user's class, whose text raises in its turn
        return False
    return any(said in told for said in _NO_MEMORY)


def _explain_system(error: OSError) -> tuple[str, str, ExitCode] | None:
    if error.errno is None or error.errno in _OF_A_BUG:
        return None
    if "temporary directory" in (error.strerror or ""):
        return "No folder for temporary files can be used.", "Set TMPDIR to one with space.", ExitCode.NOT_AVAILABLE
    said = f"The system says: {error.strerror}", "Mend that, then run it again", ExitCode.NOT_AVAILABLE
    what, do, code = _SYSTEM_ERRORS.get(error.errno, said)
    where = f": {error.filename}" if error.filename else ""
    return f"{what}{where}.", f"{do}.", code

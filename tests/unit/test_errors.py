import errno

import click
import pytest

from exporters import errors as exporting
from runtimes import errors as running
from toolchain import errors as own
from toolchain.errors import ExitCode, explain

TREES = {exporting.ExporterError: exporting, running.RuntimesError: running, own.NnxError: own}
CLASSES = [
    kind
    for base, module in TREES.items()
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, base) and (kind is not base)
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_has_what_to_do_and_a_code(kind: type[Exception]) -> None:
    known = explain(kind("It broke.", "Mend it."))
    assert known is not None
    assert known[:2] == ("It broke.", "Mend it.")
    assert known[2] in (ExitCode.CHECK_FAILED, ExitCode.BAD_USAGE, ExitCode.NOT_AVAILABLE, ExitCode.UNDECIDED)


def test_nothing_to_convert_is_a_result_and_no_wrong_usage() -> None:
    assert explain(exporting.NotApplicable("It has no weights.", "Ship it."))[2] is ExitCode.CHECK_FAILED  # type: ignore[index]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_is_drawn_in_its_tree(kind: type[Exception]) -> None:
    module = next(module for base, module in TREES.items() if issubclass(kind, base))
    assert kind.__name__ in (module.__doc__ or "")


def test_a_full_disk_is_explained() -> None:
    known = explain(OSError(errno.ENOSPC, "No space left on device", "/big"))
    assert known == ("The disk is full: /big.", "Free some space, then run it again.", ExitCode.NOT_AVAILABLE)


def test_a_bug_is_not_explained_away() -> None:
    assert explain(KeyError("x")) is None
    assert explain(OSError(errno.EBADF, "bad")) is None


def test_a_bug_keeps_its_traceback_and_its_own_exit_code(
    monkeypatch: pytest.MonkeyPatch, nnx: pytest.FixtureRequest
) -> None:
    from toolchain import cli

    @click.command()
    def broken() -> None:
        raise KeyError("lost")

    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda self, ctx, name: broken)
    code, out, err = nnx("bench")  # type: ignore[operator]
    assert code == ExitCode.BUG
    assert "KeyError" in err
    assert out == ""


def test_ctrl_c_exits_130(monkeypatch: pytest.MonkeyPatch, nnx: pytest.FixtureRequest) -> None:
    from toolchain import cli

    @click.command()
    def stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda self, ctx, name: stopped)
    code, _, err = nnx("bench")  # type: ignore[operator]
    assert code == ExitCode.INTERRUPTED
    assert "interrupted" in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.EIO, "Input/output error", "/x"), ExitCode.NOT_AVAILABLE),
        (OSError(errno.EMFILE, "Too many open files"), ExitCode.NOT_AVAILABLE),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), ExitCode.BAD_USAGE),
        (OSError(errno.ELOOP, "Too many levels", "a"), ExitCode.BAD_USAGE),
        (OSError(errno.ESTALE, "Stale file handle", "/nfs"), ExitCode.NOT_AVAILABLE),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), ExitCode.NOT_AVAILABLE),
        (FileNotFoundError(errno.ENOENT, "No such file", "gone"), ExitCode.BAD_USAGE),
        (MemoryError(), ExitCode.NOT_AVAILABLE),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), ExitCode.NOT_AVAILABLE),
        (RuntimeError("Could not determine home directory."), ExitCode.NOT_AVAILABLE),
        (RecursionError(), ExitCode.BAD_USAGE),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"), ExitCode.BAD_USAGE),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_sick_machine_and_bad_input_have_codes_of_their_own(error: Exception, code: ExitCode) -> None:
    known = explain(error)
    assert known is not None
    assert known[2] is code


@pytest.mark.parametrize(
    "cause",
    [
        MemoryError(),
        ValueError("Error parsing message with type 'onnx.ModelProto': Arena alloc failed"),
        RuntimeError("std::bad_alloc"),
        ImportError("libtorch_cpu.so: cannot map zero-fill pages"),
    ],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize("boundary", [own.BadUsage, exporting.BadModelFile, ValueError])
def test_want_of_memory_is_told_whatever_a_boundary_made_of_it(cause: Exception, boundary: type[Exception]) -> None:
    error = boundary("m.onnx is no model", "Export it.") if boundary is not ValueError else ValueError("other")
    error.__cause__ = cause
    known = explain(error)
    assert known is not None
    assert known[0] == "There is not enough memory."
    assert known[2] is ExitCode.NOT_AVAILABLE


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def test_a_cause_may_be_mute_and_lead_back_to_itself() -> None:
    error, mute = own.BadUsage("It raised Mute.", "Mend it."), Mute()
    error.__cause__, mute.__cause__ = mute, error
    assert explain(error) == ("It raised Mute.", "Mend it.", ExitCode.BAD_USAGE)


def test_what_is_not_of_memory_keeps_its_sentence() -> None:
    error = own.BadUsage("m.onnx is no model.", "Export it.")
    error.__cause__ = OSError(errno.EACCES, "Permission denied", "m.onnx")
    assert explain(error) == ("m.onnx is no model.", "Export it.", ExitCode.BAD_USAGE)


@pytest.mark.parametrize("error", [OSError(errno.EBADF, "Bad file descriptor"), OSError("x"), RuntimeError("x")])
def test_what_nobody_can_mend_is_a_fault_of_ours(error: Exception) -> None:
    assert explain(error) is None

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

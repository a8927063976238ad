"""Each command of the device's shell fails, or all is killed there: a whole version is live, the next push goes on."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.device_folder import kept, live, push, python_of_the_device, sha256, three_versions, tools

KILLER = """#!/bin/sh
# the command whose turn it is does nothing and fails, or all that runs is killed before or after it
echo >>{count}; count=$(/usr/bin/wc -l <{count})
if [ "$count" = "$FAIL" ]; then echo 'No space left on device' >&2; exit 1; fi
if [ "$count" = "$KILL_BEFORE" ]; then kill -s KILL -- $KILLED; exit 1; fi
{{tool}} "$@"; code=$?
if [ "$count" = "$KILL_AFTER" ]; then kill -s KILL -- $KILLED; fi
exit $code
"""


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Say at which command of the device's shell what happens."""
    count = tmp_path / "count"
    folder = tools(tmp_path / "killing", KILLER.format(count=count))
    # the group that Popen makes for it: what runs in a pipe is killed too
    whole = subprocess.Popen

    def in_its_own_group(command: list[str], **more: object) -> "subprocess.Popen[bytes]":
        told = ["/bin/sh", "-c", 'KILLED=-$$; export KILLED; exec "$@"', "sh", *command]
        return whole(told, start_new_session=True, **more)  # type: ignore[call-overload,no-any-return]

    def at(when: str, number: int) -> None:
        count.unlink(missing_ok=True)
        monkeypatch.setattr(subprocess, "Popen", in_its_own_group if number else whole)
        monkeypatch.setenv("PATH", str(folder))
        for each in ("FAIL", "KILL_BEFORE", "KILL_AFTER"):
            monkeypatch.setenv(each, str(number) if each == when else "")

    return at


@pytest.mark.slow
@pytest.mark.parametrize("when", ["KILL_BEFORE", "KILL_AFTER", "FAIL"])
def test_broken_off_at_any_step_a_whole_tested_version_is_live(
    when: str,
    tmp_path: Path,
    broken: Callable[[str, int], None],
) -> None:
    (a, b, _), python = three_versions(tmp_path), python_of_the_device(tmp_path)
    at, number, seen, ended = tmp_path / "device", 0, set[str | None](), False
    broken("never", 0)
    push(a, tmp_path / "start", python=python)
    while not ended:
        number += 1
        shutil.rmtree(at, ignore_errors=True)
        shutil.copytree(tmp_path / "start", at, symlinks=True)
        broken(when, number)
        outcome = push(b, at, python=python)
        ended = len((tmp_path / "count").read_text()) < number
        broken("never", 0)
        seen.add(live(at))
        assert live(at) in {sha256(a), sha256(b)}
        assert live(at) == sha256(b) or not outcome.done
        assert sha256(a) in kept(at)
        outcome = push(b, at, python=python)  # whatever was left is in nobody's way
        assert outcome.done, outcome.why
        assert (live(at), kept(at)) == (sha256(b), {sha256(a), sha256(b)})
        assert str((at / ".nnx" / "before" / sha256(b)).readlink()) == f"releases/{sha256(a)}"
    assert number > 40
    assert seen == {sha256(a), sha256(b)}

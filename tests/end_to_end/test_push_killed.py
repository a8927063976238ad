"""A device is killed or fails at any call that changes its disk: a whole version is live, the next push goes on."""

import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.device_folder import Updated, tools

FAULTS = ("kill", "once", "full", "dead")
FAILING = """#!/bin/sh
# the command whose turn it is does nothing and fails
echo >>{count}; count=$(/usr/bin/wc -l <{count})
if [ "$count" = "$FAULT_AT" ]; then echo 'No space left on device' >&2; exit 1; fi
{{tool}} "$@"
"""
Fault = Callable[[int], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """writes_that_fail.c, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here: make a device's calls fail takes a small library")
    made = tmp_path_factory.mktemp("library") / "writes_that_fail.so"
    source = Path(__file__).with_name("writes_that_fail.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"], check=True)
    return made


class Failing:
    """A fault of the calls that change a disk; ``count`` says how many there were."""

    def __init__(self, fault: str, library: Path, folder: Path) -> None:
        self._fault, self._library, self._file = fault, library, folder / "count"

    @property
    def count(self) -> int:
        return int.from_bytes(self._file.read_bytes(), "little")

    @contextmanager
    def at(self, number: int) -> Iterator[None]:
        self._file.write_bytes(bytes(8))
        facts = f"FAULT={self._fault} FAULT_AT={number} FAULT_COUNT='{self._file}' LD_PRELOAD='{self._library}'"
        whole = subprocess.Popen

        def struck(command: list[str], **more: object) -> "subprocess.Popen[bytes]":
            told = ["/bin/sh", "-c", f'export FAULT_GROUP=$$ {facts}; exec "$@"', "sh", *command]
            return whole(told, start_new_session=True, **more)  # type: ignore[call-overload,no-any-return]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(subprocess, "Popen", struck)
            yield


@pytest.mark.parametrize("fault", FAULTS)
def test_at_some_calls_that_change_the_disk(fault: str, library: Path, tmp_path: Path) -> None:
    """Drawn with a seed, and the last ones, where it goes live and what is old is removed."""
    failing, device = Failing(fault, library, tmp_path), Updated(tmp_path)
    device.under(failing.at(10**9))
    count = failing.count
    for number in [*random.Random(0).sample(range(1, count - 20), 3), *range(count - 14, count, 6)]:
        device.under(failing.at(number))


@pytest.mark.sweep
@pytest.mark.parametrize("fault", FAULTS)
def test_at_each_call_that_changes_the_disk(fault: str, library: Path, tmp_path: Path) -> None:
    failing, device, number, seen = Failing(fault, library, tmp_path), Updated(tmp_path), 0, set[bool]()
    while number == 0 or failing.count >= number:
        number += 1
        seen.add(device.under(failing.at(number))[1])
    assert number > 60
    assert seen == {True, False}


@pytest.mark.slow
def test_each_command_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, number, device, seen = tmp_path / "count", 0, Updated(tmp_path), set[bool]()
    folder = tools(tmp_path / "failing", FAILING.format(count=count))

    @contextmanager
    def failing(number: int) -> Iterator[None]:
        count.unlink(missing_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", str(folder))
            patch.setenv("FAULT_AT", str(number))
            yield

    while number == 0 or len(count.read_text()) >= number:
        number += 1
        seen.add(device.under(failing(number))[1])
    assert number > 40
    assert seen == {True, False}

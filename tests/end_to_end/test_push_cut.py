"""An upload that breaks off at any byte: a whole version stays live, and the next push goes on where it was."""

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.device_folder import Updated, executable, live, python_of_the_device, sha256, version
from toolchain.shipping import device, pushing
from toolchain.shipping.pushing import Manner

SSH = """#!{python}
import os, subprocess, sys
far = subprocess.Popen(["sh", "-c", sys.argv[-1]], stdin=subprocess.PIPE)
left, passed = int(os.environ["MOST"]), 0
while piece := os.read(0, min(left - passed, 65536)):
    far.stdin.write(piece)
    far.stdin.flush()
    passed += len(piece)
far.stdin.close()
with open(os.environ["SEEN"], "w") as seen:
    seen.write(str(passed))
sys.exit(far.wait())
"""


class Line:
    """In place of ssh something that loses the connection after so many bytes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder, self._seen = folder, folder / "passed"
        executable(folder / "ssh", SSH.format(python=sys.executable))

    @property
    def passed(self) -> int:
        return int(self._seen.read_text())

    @contextmanager
    def cut_after(self, most: int) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MOST", str(most))
            patch.setenv("SEEN", str(self._seen))
            yield


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    """One that holds, unless it is told otherwise."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MOST", str(10**9))
    monkeypatch.setenv("SEEN", os.devnull)
    return Line(tmp_path / "bin")


@pytest.mark.parametrize("count", [10, pytest.param(200, marks=pytest.mark.sweep)])
def test_cut_at_any_byte_nothing_is_live_and_the_rest_goes_on(count: int, line: Line, tmp_path: Path) -> None:
    there = Updated(tmp_path, address="ssh://device{}".format)
    assert there.under(line.cut_after(10**9))[1]
    whole, chance = line.passed, random.Random(count)
    assert whole > 2**20
    # in the weights for the most part, and in what stands before and behind them
    places = [0, whole - 1, *(chance.randrange(14_000) for _ in range(count // 4)), whole - 40, whole - 700]
    places += [chance.randrange(whole) for _ in range(count - len(places))]
    for place in places:
        outcome, is_live = there.under(line.cut_after(place))
        assert (outcome.done, is_live) == (False, False), place
        assert outcome.why.startswith(("it broke off with code", "what was sent was not received")), outcome.why


@pytest.fixture
def broken_off(line: Line, tmp_path: Path) -> tuple[Path, Path, Manner]:
    """A package, and a device on which the first push of it broke off after 2.9 MB."""
    package, at, manner = (
        version(tmp_path / "a", "a"),
        tmp_path / "device",
        Manner(python=python_of_the_device(tmp_path)),
    )
    with line.cut_after(2_900_000):
        (outcome,) = pushing.push(package, [device.target(f"ssh://device{at}")], manner)
    assert not outcome.done
    return package, at, manner


def test_what_arrived_before_a_break_is_not_sent_again(broken_off: tuple[Path, Path, Manner]) -> None:
    package, at, manner = broken_off
    (outcome,) = pushing.push(package, [device.target(f"file://{at}")], manner)
    assert outcome.done
    assert outcome.sent_bytes < outcome.package_bytes - 2 * 2**20 + 1
    assert live(at) == sha256(package)


def test_what_arrived_and_was_damaged_then_is_sent_again(broken_off: tuple[Path, Path, Manner]) -> None:
    package, at, manner = broken_off
    part = max((at / ".nnx" / "parts").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(part.read_bytes())
    content[1000] ^= 1
    part.write_bytes(content)
    (outcome,) = pushing.push(package, [device.target(f"file://{at}")], manner)
    assert outcome.done
    assert outcome.sent_bytes > 3 * 2**20
    assert live(at) == sha256(package)

"""Streams of another encoding, and streams that are closed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.bench.scripted_bench import MACHINE, benchmark, timed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with a benchmark, a.json."""
    made = tmp_path_factory.mktemp("streams")
    found = benchmark(timed("eager", 4.0, None), timed("ort fp32", 1.0, None), machine=MACHINE)
    (made / "a.json").write_text(found.to_json())
    return made


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_character_that_the_encoding_lacks_is_no_crash(
    encoding: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    command = [sys.executable, "-m", "toolchain", "compare", "a.json", "a.json"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.decode(encoding).startswith("a.json ? a.json\n")  # an arrow, which neither has


@pytest.mark.parametrize(("options", "code"), [("", 0), ("--json", 0)])
def test_a_reader_that_leaves_changes_no_exit_code(options: str, code: int, folder: Path) -> None:
    script = f'set -o pipefail; "$0" -m toolchain compare a.json a.json {options} | true'
    ended = subprocess.run(
        ["bash", "-c", script, sys.executable], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (code, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize(("name", "code"), [("a.json", 0), ("missing.json", 2)])
def test_a_closed_stream_changes_no_exit_code(closed: str, name: str, code: int, folder: Path) -> None:
    command = ["sh", "-c", f'exec "$0" -m toolchain compare a.json {name} {closed}', sys.executable]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == code
    assert ("There is no file missing.json." in ended.stderr) == (code == 2 and "2>&-" not in closed)
    assert "Traceback" not in ended.stderr

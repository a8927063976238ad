import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from exporters import temporary_folder

KILLED = (
    "import os, signal, tempfile\n"
    "from exporters import temporary_folder\n"
    "with temporary_folder.own() as folder:\n"
    "    tempfile.mkdtemp()\n"
    "    print(folder, flush=True)\n"
    "    os.kill(os.getpid(), signal.SIGKILL)\n"
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_temporary_files_lie_in_it_and_go_with_it(place: Path) -> None:
    with temporary_folder.own() as folder:
        assert folder is not None
        assert Path(tempfile.mkdtemp()).parent == folder
        script = "import tempfile; print(tempfile.gettempdir())"
        ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert ended.stdout.strip() == str(folder)
    assert list(place.iterdir()) == []
    assert tempfile.gettempdir() == str(place) == os.environ["TMPDIR"]


def test_what_a_killed_process_left_goes_at_the_next_run_and_nothing_else(place: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    left = Path(ended.stdout.strip())
    assert len(list(left.iterdir())) == 2
    name = "nnx-1-0123456789abcdef.temporary"
    (place / name).mkdir()
    (place / name / ".nnx-temporary").write_text("a user's")
    (place / "nnx-data").mkdir()
    (place / name.replace("0123", "4567")).symlink_to(left)
    (place / name.replace("0123", "89ab")).mkdir()  # of a process that was killed before its mark
    with temporary_folder.own() as living:
        assert living is not None
        temporary_folder.remove_leftovers(place)
        kept = {"nnx-data", name, name.replace("0123", "4567"), living.name}
        assert {path.name for path in place.iterdir()} == kept


@pytest.mark.parametrize("stop", [OSError, KeyboardInterrupt])
def test_it_goes_though_the_first_try_to_remove_it_ends_half_way(
    place: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    rmtree, stops = shutil.rmtree, [stop()]

    def once(folder: Path) -> None:
        if stops:
            raise stops.pop()
        rmtree(folder)

    monkeypatch.setattr(shutil, "rmtree", once)
    expected = contextlib.nullcontext() if stop is OSError else pytest.raises(stop)
    with expected, temporary_folder.own():
        pass
    assert list(place.iterdir()) == []


def test_where_no_folder_can_be_made_nothing_changes(place: Path) -> None:
    tempfile.tempdir = str(place / "nowhere")
    with temporary_folder.own() as folder:
        assert folder is None
        assert tempfile.gettempdir() == str(place / "nowhere")

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from exporters.atomic_file import remove_leftovers, sha256_of, staged, write_text


def test_a_file_appears_whole(tmp_path: Path) -> None:
    with staged(tmp_path / "new" / "a.txt") as temporary:
        temporary.write_text("x")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "x"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    final = tmp_path / "a.txt"
    write_text(final, "old")
    with pytest.raises(RuntimeError), staged(final) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert final.read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]


def test_a_kill_leaves_the_old_file_and_a_leftover_that_is_removed(tmp_path: Path) -> None:
    final = tmp_path / "a.txt"
    write_text(final, "old")
    script = (
        "import os, signal, sys, pathlib\n"
        "from exporters.atomic_file import staged\n"
        "with staged(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(final)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert final.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [final]


def test_the_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert sha256_of(tmp_path / "empty").startswith("e3b0c44298fc1c149afbf4c8996fb924")


def test_a_failure_leaves_no_folder_that_was_made_for_the_file(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for final in (tmp_path / "old" / "a.txt", tmp_path / "new" / "place" / "a.txt"):
        with pytest.raises(RuntimeError), staged(final):
            raise RuntimeError
    assert list(tmp_path.iterdir()) == [tmp_path / "old"]

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from toolchain.shipping.staged_folder import staged


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    final = tmp_path / "new" / "pack"
    with staged(final) as folder:
        (folder / "a").write_text("a")
        assert not final.exists()
    assert names(final) == ["a"]
    assert names(final.parent) == ["pack"]


def test_what_was_there_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    final = tmp_path / "pack"
    final.mkdir()
    (final / "old").touch()
    with pytest.raises(ValueError, match="no"), staged(final) as folder:
        (folder / "new").touch()
        raise ValueError("no")
    assert names(final) == ["old"]
    with staged(final) as folder:
        (folder / "new").touch()
        assert names(final) == ["old"]
    assert names(final) == ["new"]
    assert names(tmp_path) == ["pack"]


@pytest.mark.parametrize("step", ["before", "between", "after"])
def test_a_kill_at_any_moment_loses_neither(step: str, tmp_path: Path) -> None:
    """Between both renames the old folder waits under another name, and the next run gives it back."""
    final = tmp_path / "pack"
    final.mkdir()
    (final / "old").touch()
    script = f"""
import os, signal, shutil
from pathlib import Path
from toolchain.shipping import staged_folder
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
rename, done = Path.rename, []
def dying(path, target):
    if "{step}" == "between" and done:
        die()
    done.append(path)
    return rename(path, target)
Path.rename = dying
remove = shutil.rmtree
shutil.rmtree = lambda *given, **more: die() if "{step}" == "after" and len(done) == 2 else remove(*given, **more)
with staged_folder.staged(Path({str(final)!r})) as folder:
    (folder / "new").touch()
    if "{step}" == "before":
        die()
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], check=False, env={**os.environ, "PYTHONPATH": str(Path.cwd())}
    )
    assert ended.returncode == -signal.SIGKILL
    with pytest.raises(ValueError, match="no"), staged(final):
        raise ValueError("no")
    assert names(final) == (["new"] if step == "after" else ["old"])
    assert names(tmp_path) == ["pack"]


def test_a_living_run_is_left_alone(tmp_path: Path) -> None:
    with staged(tmp_path / "one") as first, staged(tmp_path / "two") as second:
        assert first.is_dir()
        assert second.is_dir()
    assert names(tmp_path) == ["one", "two"]

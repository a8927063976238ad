import os
from pathlib import Path

import pytest

from toolchain.cli.outputs import artifacts_folder, writable
from toolchain.errors import BadUsage


def test_a_look_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert writable(Path("new/place/file")) == Path("new/place/file")
    assert artifacts_folder("net.py:recipe", None) == Path("artifacts/net")
    assert artifacts_folder("net.py:small", None) == Path("artifacts/net-small")
    assert artifacts_folder("digits", tmp_path / "out") == tmp_path / "out"
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for place in ("file/new", "file/new/place", "link/new"):
        with pytest.raises(BadUsage, match="cannot be written"):
            writable(tmp_path / place)
    with pytest.raises(BadUsage, match="is a folder"):
        writable(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_the_nearest_folder_that_is_there_must_allow_it(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(BadUsage, match="cannot be written"):
        writable(tmp_path / "closed" / "new" / "file")

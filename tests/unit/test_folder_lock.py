import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from toolchain import folder_lock
from toolchain.errors import NotAvailable


def test_the_second_command_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts" / "digits"
    with folder_lock.held(folder, ["nnx", "run", "my recipe.py:recipe"]):
        said = rf"in use by process {os.getpid()}, `nnx run 'my recipe.py:recipe'`, since 20\d\d-"
        with pytest.raises(NotAvailable, match=said), folder_lock.held(folder, ["nnx", "train"]):
            pass
        with folder_lock.held(tmp_path / "other", []):
            pass
    assert list(tmp_path.iterdir()) == []
    with folder_lock.held(folder, []):
        (folder / "model.onnx").touch()
    assert [path.name for path in folder.iterdir()] == ["model.onnx"]


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, pathlib\n"
        "from toolchain import folder_lock\n"
        "with folder_lock.held(pathlib.Path(sys.argv[1]), ['nnx', 'run']):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert (tmp_path / folder_lock.NAME).exists()
    with folder_lock.held(tmp_path, []):
        pass
    assert list(tmp_path.iterdir()) == []

"""One real run of the digits recipe, made once and shared."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from benchmarks import loopback_sshd
from tests.end_to_end.command import run_nnx

QUICK = ["--epochs", "14", "--no-compile", "--batch", "1,8", "--threads", "1", "--max-time", "1"]


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `nnx run digits` was run; its artifacts lie in artifacts/digits. Not to be changed."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # the folder that the processes of one run of tests share
    folder, done = shared / "work", shared / "work.done"
    with FileLock(shared / "work.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            ended = run_nnx("run", "digits", *QUICK, cwd=folder, timeout=900)
            assert ended.returncode == 0, ended.stderr
            (folder / "stdout.txt").write_text(ended.stdout)
            (folder / "stderr.txt").write_text(ended.stderr)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def digits(work: Path) -> Path:
    """The artifacts of that run."""
    return work / "artifacts" / "digits"


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `ssh` and `scp`, which know the host `device`: a real sshd."""
    try:
        with loopback_sshd.serving(tmp_path_factory.mktemp("ssh")) as programs:
            yield programs
    except loopback_sshd.NoServer as why:
        pytest.skip(str(why))

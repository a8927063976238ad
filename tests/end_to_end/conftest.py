"""One real run of the digits recipe, made once and shared."""

from pathlib import Path

import pytest

from tests.end_to_end.command import run_nnx

QUICK = ["--epochs", "14", "--no-compile", "--batch", "1,8", "--threads", "1", "--max-time", "1"]


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `nnx run digits` was run; its artifacts lie in artifacts/digits. Not to be changed."""
    folder = tmp_path_factory.mktemp("work")
    ended = run_nnx("run", "digits", *QUICK, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    (folder / "stdout.txt").write_text(ended.stdout)
    (folder / "stderr.txt").write_text(ended.stderr)
    return folder


@pytest.fixture(scope="session")
def digits(work: Path) -> Path:
    """The artifacts of that run."""
    return work / "artifacts" / "digits"

"""What all rings of tests share."""

import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from toolchain.cli import main

DATA_VARIABLE = "NNX_TEST_DATA"
# how long an example takes depends on what else the machine does
hypothesis.settings.register_profile("nnx", deadline=None)
hypothesis.settings.load_profile("nnx")


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests, and the commands that they start, leave the user's cache alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def nnx(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: nnx("bench", ...) -> (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return run


def _real_data(name: str) -> Path:
    folder = os.environ.get(DATA_VARIABLE)
    if folder is None or not (Path(folder) / name).exists():
        pytest.skip(f"real data: {DATA_VARIABLE} does not name a folder with {name}")
    return Path(folder) / name


@pytest.fixture(scope="session")
def sst2_folder() -> Path:
    """The real SST-2."""
    return _real_data("sst2")


@pytest.fixture(scope="session")
def cifar10_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real CIFAR-10 as an image tree."""
    archive = _real_data("cifar10-jpeg.tar.xz")
    folder = tmp_path_factory.mktemp("cifar10")
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    return folder

"""A small package, and keys that sign it."""

from pathlib import Path

import pytest

from benchmarks.hard import base_package
from toolchain.shipping import keys


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return base_package.write(tmp_path / "small.ortpackage")


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> keys.Pair:
    return keys.new(tmp_path_factory.mktemp("keys") / "one")


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> keys.Pair:
    return keys.new(tmp_path_factory.mktemp("keys") / "other")

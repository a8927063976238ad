"""The judge of `make serve-load` sees wrong, refused and lost answers; and ten thousand in a row have none."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import serve_load
from benchmarks.serve_load import Server
from tests.contract.shipping.conftest import write_net
from toolchain.shipping import contents, packing
from toolchain.shipping.packing import Title

pytestmark = pytest.mark.skipif(shutil.which("wrk") is None, reason="there is no wrk: apt-get install wrk")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("load")
    given = contents.of_models([write_net(folder / "net.onnx")])
    return packing.pack(given, folder / "net.ortpackage", Title(name="net")).path


@pytest.fixture(scope="module")
def server(package: Path) -> Iterator[Server]:
    started = Server(package)
    yield started
    assert started.stop() == 0


def test_right_answers_are_right_and_wrong_ones_wrong(package: Path, server: Server, tmp_path: Path) -> None:
    cases = serve_load.write_cases(package, tmp_path)
    told = serve_load.load(server.url, cases, connections=4, seconds=1)
    assert told["answered"] > 50
    assert (told["wrong"], told["refused"], told["lost"]) == (0, 0, 0)
    golden = sorted(tmp_path.glob("*.golden"))
    for path in golden:
        path.write_bytes((np.frombuffer(path.read_bytes(), np.float32) + np.float32(0.01)).tobytes())
    told = serve_load.load(server.url, cases, connections=4, seconds=1)
    assert told["wrong"] == told["answered"] > 50
    for path in golden:
        path.write_bytes(path.read_bytes()[:-4])
    told = serve_load.load(server.url, cases, connections=4, seconds=1)
    assert told["wrong"] == told["answered"]


def test_refused_ones_are_counted(package: Path, server: Server, tmp_path: Path) -> None:
    cases = serve_load.write_cases(package, tmp_path)
    told = serve_load.load(server.url.replace("/net", "/other"), cases, connections=4, seconds=1)
    assert told["refused"] == told["answered"] > 50


def test_faults_are_named() -> None:
    good = {"wrong": 0, "refused": 0, "lost": 0}
    soak = {**good, "memory_mb": [100.0, 105.0]}
    assert serve_load.faults("net", {"loads": {"1": [good]}, "soak": soak, "exit": 0}) == []
    bad = {"loads": {"1": [{**good, "lost": 2}]}, "soak": {**soak, "wrong": 1, "memory_mb": [100.0, 111.0]}, "exit": 1}
    told = ["net: 1 answers wrong", "net: 2 answers lost", "net: it ended with 1", "net: it grew by 11.0 MB"]
    assert serve_load.faults("net", bad) == told


@pytest.mark.slow
def test_ten_thousand_answers_and_the_memory_is_flat(package: Path, server: Server, tmp_path: Path) -> None:
    soak = serve_load.soaked(server, serve_load.write_cases(package, tmp_path), 10_000)
    assert serve_load.faults("net", {"loads": {}, "soak": soak, "exit": 0}) == []

"""What is served was whole and answered as its golden values say; what runs together gives what each gives alone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from runtimes.base import run
from tests.contract.shipping.conftest import write_net, write_two
from toolchain.errors import BadUsage, CheckFailed
from toolchain.progress import Progress
from toolchain.serving import checked
from toolchain.shipping import checksums, contents, packing
from toolchain.shipping.packing import Title


def pack(folder: Path, *paths: Path) -> Path:
    return packing.pack(contents.of_models(paths), folder / "net.ortpackage", Title(name="net")).path


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    return pack(folder, write_net(folder / "net.onnx"))


class Heard(Progress):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_it_answers_and_says_what_it_is(package: Path) -> None:
    with checked.opened(package, most_rows=4) as served:
        assert (served.interface.name, served.interface.version, served.variant.name) == ("net", "1.0.0", "fp32")
        assert (served.threads, served.most_rows) == (1, 4)
        outputs = run(served.runtime, {"x": np.zeros((3, 4), np.float32)})
    np.testing.assert_array_equal(outputs["scores"], [[0, 1, 2]] * 3)


def test_an_archive_is_served_too(package: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "net"), "tar", package.parent, package.name)
    with checked.opened(Path(archive)) as served:
        assert run(served.runtime, {"x": np.zeros((1, 4), np.float32)})["scores"].shape == (1, 3)


def test_variants_that_share_their_weights_and_bring_settings(tmp_path: Path) -> None:
    package = pack(tmp_path, *write_two(tmp_path))
    for name, bias in (("second", 0), ("first", 1)):
        with checked.opened(package, variant=name) as served:
            outputs = run(served.runtime, {"x": np.zeros((1, 4), np.float32)})
        np.testing.assert_array_equal(outputs["scores"], [[bias, 1 + bias, 2 + bias]])
    with pytest.raises(BadUsage, match="has no variant 'third'"), checked.opened(package, variant="third"):
        pass


def test_what_was_changed_is_not_served(package: Path, tmp_path: Path) -> None:
    harmed = Path(shutil.copytree(package, tmp_path / "net.ortpackage"))
    (harmed / "README.md").write_text("other")
    with pytest.raises(CheckFailed, match="is not what it should be"), checked.opened(harmed):
        pass


def test_what_answers_otherwise_is_not_served(package: Path, tmp_path: Path) -> None:
    """Its checksums are right: whoever changed it wrote them anew."""
    harmed = Path(shutil.copytree(package, tmp_path / "net.ortpackage"))
    write_net(harmed / "net" / "fp32" / "model.onnx", shift=0.5)
    checksums.write(harmed)
    why = r"fails its self-test: 'scores' of case 0 is off by 0\.5"
    with pytest.raises(CheckFailed, match=why), checked.opened(harmed):
        pass


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda told: told.pop("cases"), "cases is missing"),
        (lambda told: told["cases"][0]["inputs"][0].update(offset=10**9), "'x' lies outside of nnx/golden.bin"),
        (lambda told: told["cases"][0]["inputs"][0].update(bytes=4), "'x' lies outside of nnx/golden.bin"),
        (lambda told: told["cases"][0]["inputs"][0].update(dtype="object"), "dtype is \"object\""),
        (lambda told: told["cases"][0]["outputs"].clear(), "has no golden outputs for fp32"),
        (lambda told: told["tolerances"]["fp32"].clear(), "has no golden outputs for fp32"),
    ],
)  # fmt: skip
def test_golden_values_that_are_none(package: Path, tmp_path: Path, change: object, why: str) -> None:
    harmed = Path(shutil.copytree(package, tmp_path / "net.ortpackage"))
    described = harmed / "nnx" / "golden.json"
    told = json.loads(described.read_text())
    change(told)  # type: ignore[operator]
    described.write_text(json.dumps(told))
    checksums.write(harmed)
    with pytest.raises(BadUsage, match=why), checked.opened(harmed):
        pass


def test_a_golden_output_that_the_model_has_not_is_a_fault(package: Path, tmp_path: Path) -> None:
    harmed = Path(shutil.copytree(package, tmp_path / "net.ortpackage"))
    described = harmed / "nnx" / "golden.json"
    described.write_text(described.read_text().replace('"scores"', '"other"'))
    checksums.write(harmed)
    with pytest.raises(CheckFailed, match="'other' of case 0 is not there"), checked.opened(harmed):
        pass


def test_a_package_asks_for_no_more_threads_than_there_are_processors(package: Path, tmp_path: Path) -> None:
    harmed = Path(shutil.copytree(package, tmp_path / "net.ortpackage"))
    described = harmed / "nnx" / "package.json"
    told = json.loads(described.read_text())
    latency = {"p50": 1.0, "p90": 1.0, "p99": 1.0}
    told["variants"][0]["row"] = {"latency_ms": latency, "batch": 1, "threads": 10**9, "machine": "large"}
    described.write_text(json.dumps(told))
    checksums.write(harmed)
    with checked.opened(harmed) as served:
        assert served.threads == os.cpu_count()


FIXED = """
<ir_version: 9, opset_import: ["": 18]>
net (float[1, 2] x) => (float[1, 2] y) { y = Relu(x) }
"""
SUMMED = """
<ir_version: 9, opset_import: ["": 18]>
net (float[N, 2] x) => (float[N, 2] y) {
    axis = Constant <value_ints = [0]> ()
    sum = ReduceSum(x, axis)
    y = Sub(x, sum)
}
"""


@pytest.mark.parametrize(
    ("text", "why"), [(FIXED, "not all inputs and outputs have a batch"), (SUMMED, "do not give the same: 'y'")]
)
def test_where_samples_cannot_run_together_each_runs_alone(tmp_path: Path, text: str, why: str) -> None:
    onnx.save(parser.parse_model(text), tmp_path / "net.onnx")
    heard = Heard()
    with checked.opened(pack(tmp_path, tmp_path / "net.onnx"), most_rows=4, progress=heard) as served:
        assert served.most_rows == 1
    (warning,) = heard.warnings
    assert why in warning


def test_serving_loads_neither_pytorch_nor_what_trains() -> None:
    code = (
        "import sys, toolchain.serving.server, toolchain.serving.checked; print({'torch', 'sklearn'} & {*sys.modules})"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"

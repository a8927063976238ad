"""What is found about models: by samples, recipes, folders of images, benchmarks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from PIL import Image

from exporters.model_file import ModelFile
from tests.contract.shipping.conftest import write_net
from tests.unit.bench.scripted_bench import MACHINE, candidate, timed
from toolchain.accuracy.status import Status
from toolchain.bench.record import Benchmark
from toolchain.errors import BadUsage, CheckFailed
from toolchain.progress import Progress
from toolchain.shipping import contents, package, packing
from toolchain.shipping.packing import Title
from toolchain.stats import Interval


class Warned(Progress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, text: str) -> None:
        self.said.append(text)


def sentiment(path: Path) -> Path:
    """(N, 5000) TF-IDF weights -> (N, 2)."""
    text = """<ir_version: 9, opset_import: ["": 18]>
    net (float[N, 5000] tfidf) => (float[N, 2] logits) { logits = MatMul(tfidf, w) }"""
    model = parser.parse_model(text)
    weight = np.random.default_rng(0).normal(size=(5000, 2)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    onnx.save(model, path)
    return path


def test_sentences_travel_with_their_vectors_and_the_runner_makes_the_same(tmp_path: Path) -> None:
    for name in ("train.tsv", "dev.tsv", "test.tsv"):
        lines = [
            f"{'a fine' if number % 2 else 'no good'} film , take {number}\t{number % 2}\n" for number in range(20)
        ]
        (tmp_path / name).write_text("".join(lines))
    found = contents.of_models([sentiment(tmp_path / "net.onnx")], samples_source="sst2", data_folder=tmp_path)
    packed = packing.pack(found, tmp_path / "net.ortpackage", Title(name="net"))
    told = packed.package
    assert (told.task, told.preprocessing, told.labels) == (
        "text-classification",
        package.PREPROCESSING,
        package.LABELS,
    )
    checks = [each for each in packed.receipt["checks"] if each["name"].startswith("preprocessing")]
    assert len(checks) == 7
    assert all(each["ok"] for each in checks)
    golden = json.loads((tmp_path / "net.ortpackage" / package.GOLDEN).read_text())
    assert all("film" in case["text"] for case in golden["cases"][:7])
    place = tmp_path / "net.ortpackage" / package.PREPROCESSING
    place.write_text(
        place.read_text().replace('"lowercase": true', '"lowercase": true', 1).replace('"film": ', '"flim": ')
    )
    with pytest.raises(CheckFailed, match="preprocessing 0: the input is off by"):
        from toolchain.shipping import self_test

        self_test.run(tmp_path / "net.ortpackage")


def test_a_folder_of_images_says_how_and_what(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["": 18]>
    net (float[N, 3, 8, 8] pixels) => (float[N, 3] scores) {
        mean = GlobalAveragePool(pixels)
        scores = Flatten(mean)
    }"""
    onnx.save(parser.parse_model(text), tmp_path / "net.onnx")
    for number, name in enumerate(("cat", "dog", "owl")):
        (tmp_path / "images" / name).mkdir(parents=True)
        pixels = np.full((10, 12, 3), 40 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / name / "one.png")
    found = contents.of_models([tmp_path / "net.onnx"], samples_source=str(tmp_path / "images"))
    assert list(found.inputs.labels) == ["cat", "dog", "owl"]
    assert found.inputs.preprocessing is not None
    assert found.inputs.preprocessing["input"] == "pixels"
    assert found.inputs.preprocessing["crop"] == pytest.approx(0.875)


def bench(tmp_path: Path, **rows: tuple[Path, float, Status]) -> Path:
    made = []
    for label, (path, latency, status) in rows.items():
        file = ModelFile(path)
        who = candidate(label, sha256=file.sha256, model=str(path))
        row = timed(label, latency, Interval(1 / latency, 0.9 / latency, 1.1 / latency))
        made.append(replace(row, candidate=who, status=status, reason="" if status is Status.OK else "It differs."))
    text = Benchmark(machine=MACHINE, created="2026-12-01T00:00:00Z", data="x", rows=tuple(made)).to_json()
    (tmp_path / "bench.json").write_text(text)
    return tmp_path / "bench.json"


def test_the_benchmark_orders_the_models_and_its_rows_travel_without_paths(tmp_path: Path) -> None:
    slow, fast, bad = (
        write_net(tmp_path / f"{name}.onnx", shift=shift) for name, shift in (("a", 0), ("b", 1), ("c", 2))
    )
    measured = bench(
        tmp_path, a=(slow, 2.0, Status.OK), b=(fast, 1.0, Status.OK), c=(bad, 0.5, Status.UNPROVEN)
    )  # fmt: skip
    progress = Warned()
    found = contents.of_models([slow, fast, bad], benchmark=measured, progress=progress)
    assert [model.name for model in found.models] == ["b", "a"]
    assert progress.said[-1] == "c: left out. It differs."
    packed = packing.pack(found, tmp_path / "net.ortpackage", Title(name="net"))
    first = packed.package.variants[0]
    assert first.row is not None
    assert first.row.machine == "Scripted 9000, 2 cores"
    assert 1.0 <= first.row.latency_ms["p50"] <= first.row.latency_ms["p99"] < 1.2
    rows = (tmp_path / "net.ortpackage" / package.ROWS).read_text()
    assert str(tmp_path) not in rows
    assert [row["variant"] for row in json.loads(rows)["rows"]] == ["a", "b"]


def test_models_that_a_benchmark_refused_make_no_package(tmp_path: Path) -> None:
    net = write_net(tmp_path / "net.onnx")
    measured = bench(tmp_path, net=(net, 1.0, Status.UNPROVEN))
    with pytest.raises(CheckFailed, match="not to be trusted"):
        contents.of_models([net], benchmark=measured)


def test_rows_of_other_files_order_nothing_and_that_is_said(tmp_path: Path) -> None:
    net, other = write_net(tmp_path / "net.onnx"), write_net(tmp_path / "other.onnx", shift=1)
    progress = Warned()
    found = contents.of_models([net], benchmark=bench(tmp_path, other=(other, 1.0, Status.OK)), progress=progress)
    assert found.benchmark is None
    assert "has no row of these files" in progress.said[-1]


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    paths = [write_net(tmp_path / "net.onnx"), write_net(tmp_path / "sub" / "net.onnx", shift=1)]
    with pytest.raises(BadUsage, match="same name"):
        contents.of_models(paths)

"""The single commands on good input."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exporters import onnx_file, provenance
from exporters.model_file import ModelFile
from tests.end_to_end.test_bad_input import FACTORIES

Nnx = Callable[..., tuple[int, str, str]]
BRIEF = ["--batch", "8", "--threads", "1", "--max-time", "1ms"]


@pytest.fixture
def place(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(work / "artifacts", tmp_path / "artifacts")
    Path(tmp_path / "factories.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_export_a_recipe(place: Path, nnx: Nnx) -> None:
    code, out, err = nnx("export", "digits", "-o", "d.onnx", "--opset", "21", "--json")
    assert code == 0, err
    made = json.loads(out)
    assert (made["opset"], made["parity"]["passed"], made["proven_on"]) == (21, True, "the test split of digits")
    assert made["parity"]["max_difference"] < 1e-4
    assert onnx_file.opset_of(ModelFile(Path("d.onnx")).proto) == 21


@pytest.mark.parametrize("name", ["make", "with_examples"])
def test_export_a_factory(name: str, place: Path, nnx: Nnx) -> None:
    given = ["--input", "x=float32[1,4]"] if name == "make" else []
    code, out, err = nnx("export", f"factories.py:{name}", *given, "-o", "sub/f.onnx", "--output-name", "score")
    assert code == 0, err
    assert out.startswith("sub/f.onnx: fp32")
    assert onnx_file.interface_of(ModelFile(Path("sub/f.onnx")).proto) == (("x",), ("score",))


def test_convert_to_fp16(place: Path, nnx: Nnx) -> None:
    shutil.copy("artifacts/digits/model.onnx", "m.onnx")
    code, out, err = nnx("convert", "m.onnx", "--fp16", "--calibration", "digits", "--json")
    assert code == 0, err
    made = json.loads(out)
    assert made["path"] == "m.fp16.onnx"
    assert made["size_bytes"] < 0.55 * Path("m.onnx").stat().st_size
    assert made["proven_on"] == "the test split of digits"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ([], "dynamic"),
        (["--calibration", "digits"], "static"),
        (["--calibration", "x.npz", "--samples", "4"], "static"),
    ],
)
def test_quantize_chooses_its_mode_and_says_which(given: list[str], mode: str, place: Path, nnx: Nnx) -> None:
    shutil.copy("artifacts/digits/model.onnx", "m.onnx")
    np.savez("x.npz", image=np.random.default_rng(0).normal(size=(10, 1, 8, 8)).astype(np.float32))
    code, out, err = nnx("quantize", "m.onnx", "--int8", *given)
    assert code == 0, err
    assert f"{mode} int8; " in err
    assert f"m.int8-{mode}.onnx: int8-{mode}" in out
    facts = provenance.read(ModelFile(Path(f"m.int8-{mode}.onnx")).proto)
    if mode == "static":
        assert facts["calibration_samples"] == ("256" if "digits" in given else "4")


@pytest.mark.slow
def test_calibration_comes_from_the_training_split(place: Path, nnx: Nnx) -> None:
    code, _, err = nnx("quantize", "artifacts/digits/model.onnx", "--int8", "--calibration", "digits", "-o", "q.onnx")
    assert code == 0
    assert "256 samples from the training split of digits" in err


@pytest.mark.parametrize("form", ["--json", "--csv", "--markdown"])
def test_bench_files(form: str, place: Path, nnx: Nnx) -> None:
    shutil.copytree("artifacts/digits", "a", ignore=shutil.ignore_patterns("manifest.json"))
    code, out, err = nnx("bench", "a/model.onnx", "a/model.int8-static.onnx", *BRIEF, form, "-o", "sub/b.json")
    assert code == 0, err
    assert "seeded random" in err
    saved = json.loads(Path("sub/b.json").read_text())
    assert [row["candidate"]["precision"] for row in saved["rows"]] == ["fp32", "int8-static"]
    assert saved["rows"][1]["parity"].endswith("dB")
    if form == "--csv":
        assert [row["row"] for row in csv.DictReader(io.StringIO(out))] == ["model", "model.int8-static"]
    elif form == "--json":
        assert json.loads(out) == saved
    else:
        assert out.startswith("| row |")


def test_bench_with_labels_from_a_file(place: Path, nnx: Nnx) -> None:
    random = np.random.default_rng(0)
    np.savez("x.npz", image=random.normal(size=(40, 1, 8, 8)).astype(np.float32), labels=random.integers(0, 10, 40))
    code, out, err = nnx("bench", "artifacts/digits/model.onnx", *BRIEF, "--samples", "x.npz", "--json")
    assert code == 0, err
    assert 0 <= json.loads(out)["rows"][0]["accuracy"]["estimate"] < 0.6


def test_bench_on_two_providers_reports_the_one_that_is_not_there(place: Path, nnx: Nnx) -> None:
    code, out, err = nnx(
        "bench", "artifacts/digits/model.onnx", *BRIEF, "--provider", "cpu", "--provider", "qnn", "--json"
    )
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert [(row["setting"]["provider"], row["status"]) for row in rows] == [("cpu", "ok"), ("qnn", "unavailable")]
    assert rows[1]["rounds_ms"] == []

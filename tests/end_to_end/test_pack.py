"""`nnx pack` by its command line: digits from the run to a package that answers, and bad input in a sentence."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolchain.datasets.digits import Digits
from toolchain.shipping import package

Nnx = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(digits, tmp_path / "artifacts" / "digits")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_digits_become_a_package_that_answers(place: Path, nnx: Nnx) -> None:
    code, out, err = nnx("pack", "artifacts/digits", "--licence", "Apache-2.0", "--target", "linux-x64", "--json")
    assert code == 0, err
    made = json.loads(out)
    assert made["package"] == "digits.ortpackage"
    assert made["receipt"]["ok"]
    told = package.read(place / "digits.ortpackage")
    assert sorted(made["variants"]) == ["fp16", "fp32", "int8-dynamic", "int8-static"]
    assert (told.task, told.licence, told.provenance["recipe"]) == ("image-classification", "Apache-2.0", "digits")
    first, *others = told.variants
    assert first.row is not None
    assert all(first.row.latency_ms["p50"] <= other.row.latency_ms["p50"] * 1.2 for other in others if other.row)
    assert first.peak_memory_bytes
    assert first.accuracy is not None
    fp32 = next(each for each in told.variants if each.name == "fp32")
    assert {each.provenance.get("parent_sha256") for each in told.variants if each is not fp32} == {fp32.sha256}
    card = (place / "digits.ortpackage" / package.CARD).read_text()
    assert card.startswith(
        '---\nlicense: "apache-2.0"\nlibrary_name: onnxruntime\npipeline_tag: image-classification\n'
    )
    data = Digits().load().test
    run = [sys.executable, "digits.ortpackage/runners/python/run.py"]
    right = 0
    for number in range(10):
        Image.fromarray(np.round(data.inputs[number, 0] * (255 / 16)).astype(np.uint8)).save("digit.png")
        ended = subprocess.run([*run, "digit.png"], capture_output=True, text=True, check=True)
        right += json.loads(ended.stdout)["answer"] == str(data.targets[number])
    assert right >= 8


def test_a_package_is_signed_as_it_is_packed(place: Path, nnx: Nnx) -> None:
    pytest.importorskip("model_signing", reason="the extra sign is not installed")
    assert nnx("keys", "new", "release")[0] == 0
    code, out, err = nnx("pack", "artifacts/digits", "--sign", "release.key", "--json")
    assert code == 0, err
    code, told, err = nnx("verify", "digits.ortpackage", "--trust", "release.pub", "--json")
    assert code == 0, err
    assert json.loads(told)["signed_by"] == json.loads(out)["signed_by"]


def test_model_files_are_packed_on_seeded_or_given_samples(place: Path, nnx: Nnx) -> None:
    shutil.copy("artifacts/digits/model.onnx", "net.onnx")
    code, out, err = nnx("pack", "net.onnx")
    assert code == 0, err
    assert "seeded random values" in err
    assert out.startswith("net.ortpackage: ")
    code, _, err = nnx(
        "pack",
        "net.onnx",
        "--samples",
        "digits",
        "-o",
        "sub/other.ortpackage",
        "--bench",
        "artifacts/digits/bench.json",
    )
    assert code == 0, err
    told = package.read(Path("sub/other.ortpackage"))
    assert (told.name, told.labels, told.preprocessing) == ("other", package.LABELS, package.PREPROCESSING)
    assert told.variants[0].row is not None


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["nothing.onnx"], 2, "nothing.onnx"),
        (["artifacts"], 2, "artifacts is not an artifacts folder"),
        (["artifacts/digits", "artifacts/digits/model.onnx"], 2, "Name one artifacts folder, or model files."),
        (["artifacts/digits", "-o", "digits"], 2, "digits does not end in .ortpackage"),
        (["artifacts/digits", "-o", "taken.ortpackage"], 2, "taken.ortpackage is there, and is no package of nnx"),
        (["artifacts/digits", "-o", "nnx.ortpackage"], 2, "cannot be called 'nnx'"),
        (["artifacts/digits", "--licence", "do what you like!"], 2, "is no SPDX expression"),
        (["artifacts/digits", "--package-version", "one two"], 2, "is no version"),
        (["artifacts/digits", "--target", "toaster"], 2, "toaster"),
        (["artifacts/digits", "--sign", "text.json"], 2, "text.json"),
        (["artifacts/digits", "--bench", "text.json"], 2, "The file is not a benchmark of nnx"),
        (["artifacts/digits/model.onnx", "--samples", "nothing.npz"], 2, "nothing.npz"),
        (["artifacts/digits/model.onnx", "--recipe", "digits"], 2, "--recipe would do nothing"),
        (["artifacts/digits/model.onnx", "text.onnx"], 2, "text.onnx"),
        ([], 2, "Missing argument"),
    ],
)
def test_bad_input_gets_a_sentence_and_leaves_nothing(
    arguments: list[str], code: int, what: str, place: Path, nnx: Nnx
) -> None:
    Path("text.json").write_text("{}")
    Path("text.onnx").write_text("this is not a model")
    Path("taken.ortpackage").mkdir()
    Path("taken.ortpackage/mine").touch()
    before = sorted(Path().rglob("*"))
    ended, out, err = nnx("pack", *arguments)
    assert (ended, out) == (code, "")
    assert what in err
    assert "Traceback" not in err
    assert sorted(Path().rglob("*")) == before


def test_a_folder_made_by_somebodys_code_runs_none_of_it(place: Path, nnx: Nnx) -> None:
    manifest = Path("artifacts/digits/manifest.json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"recipe": "/tmp/theirs.py:recipe"}))
    code, _, err = nnx("pack", "artifacts/digits")
    assert code == 2
    assert "a folder is not obeyed in that" in err

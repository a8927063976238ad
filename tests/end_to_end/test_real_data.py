"""The recipes on their real data, where NNX_TEST_DATA names it."""

import json
from pathlib import Path

import pytest

from tests.end_to_end.command import run_nnx


@pytest.mark.data
@pytest.mark.slow
def test_sst2_beats_its_source(sst2_folder: Path, tmp_path: Path) -> None:
    options = ["--batch", "1", "--threads", "1", "--max-time", "2", "--no-compile"]
    ended = run_nnx("run", "sst2", "--data", sst2_folder, *options, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    folder = tmp_path / "artifacts" / "sst2"
    facts = json.loads((folder / "manifest.json").read_text())["steps"]["train"]["facts"]
    assert facts["validation_score"] >= 0.788
    rows = {row["candidate"]["label"]: row for row in json.loads((folder / "bench.json").read_text())["rows"]}
    original = rows["eager"]["accuracy"]["estimate"]
    for precision, mebibytes in {"fp32": 10.4, "fp16": 5.2, "int8-dynamic": 2.6, "int8-static": 2.6}.items():
        row = rows[f"ort {precision}"]
        assert abs(row["accuracy"]["estimate"] - original) <= 0.005
        assert row["candidate"]["size_bytes"] / 2**20 == pytest.approx(mebibytes, rel=0.05)
    assert json.loads((folder / "preprocessing.json").read_text())["kind"] == "tfidf"


@pytest.mark.data
@pytest.mark.slow
def test_cifar10_learns_and_keeps_its_accuracy_in_int8(cifar10_folder: Path, tmp_path: Path) -> None:
    options = ["--epochs", "1", "--batch", "32", "--threads", "2", "--max-time", "1", "--no-compile"]
    ended = run_nnx("run", "cifar10", "--data", cifar10_folder, *options, cwd=tmp_path, timeout=540)
    assert ended.returncode == 0, ended.stderr
    text = (tmp_path / "artifacts" / "cifar10" / "bench.json").read_text()
    accuracy = {row["candidate"]["label"]: row["accuracy"]["estimate"] for row in json.loads(text)["rows"]}
    assert accuracy["eager"] > 0.3
    assert abs(accuracy["ort fp32"] - accuracy["eager"]) < 0.002
    assert abs(accuracy["ort int8-static"] - accuracy["eager"]) < 0.02

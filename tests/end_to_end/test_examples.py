"""Every file in examples/ does what it says."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import stored_pictures
from tests.drawn import drawn
from tests.end_to_end.command import run_nnx
from toolchain.datasets import reading
from toolchain.training.record import History

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
Nnx = Callable[..., tuple[int, str, str]]


@pytest.mark.slow
def test_a_recipe_of_ones_own_goes_all_the_way(tmp_path: Path) -> None:
    brief = ["--no-compile", "--batch", "8", "--threads", "1", "--max-time", "1s", "--json"]
    ended = run_nnx("run", f"{EXAMPLES / 'wine_recipe.py'}:recipe", "--out", "wine", *brief, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    rows = json.loads(ended.stdout)["rows"]
    assert {row["candidate"]["label"] for row in rows if row["status"] == "ok"} >= {"eager", "ort fp32", "ort fp16"}
    assert all(row["accuracy"]["estimate"] > 0.8 for row in rows if row["status"] == "ok")


@pytest.mark.parametrize(
    ("factory", "given", "inputs"),
    [("two_towers", [], {"user", "item"}), ("encoder", ["--input", "tokens=float32[1,16,32]"], {"tokens"})],
)
def test_a_factory_is_exported(
    factory: str, given: list[str], inputs: set[str], nnx: Nnx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    monkeypatch.chdir(tmp_path)
    code, _, err = nnx("export", f"{EXAMPLES / 'factory.py'}:{factory}", *given, "-o", "made.onnx")
    assert code == 0, err
    assert {value.name for value in onnx.load("made.onnx").graph.input} == inputs


@pytest.mark.slow
def test_the_library_is_called_from_python(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(EXAMPLES / "library.py"), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"perceptron.onnx", "perceptron.int8.onnx"}
    assert "passed" in ended.stdout
    assert "four answers: [" in ended.stdout


TASKS = {
    # by what a trained one reaches, with some room: the scores of other seeds vary
    "regression": ("mae", "mean absolute error", 60.0),
    "multilabel": ("f1", "F1", 0.65),
    "binary": ("f1", "F1", 0.85),
    "segmentation": ("iou", "mean IoU", 0.75),
    "tagging": ("top1", "accuracy", 0.95),
    "audio": ("top1", "accuracy", 0.9),
}


@pytest.mark.slow
@pytest.mark.parametrize("task", drawn(TASKS, 3))
def test_a_recipe_for_another_task_goes_all_the_way(task: str, tmp_path: Path) -> None:
    brief = ["--no-compile", "--batch", "8", "--threads", "1", "--max-time", "1s", "--json"]
    ended = run_nnx("run", f"{EXAMPLES / f'{task}_recipe.py'}:recipe", "--out", "made", *brief, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    rows = json.loads(ended.stdout)["rows"]
    labels = {row["candidate"]["label"] for row in rows if row["status"] == "ok"}
    assert labels >= {"eager", "ort fp32", "ort fp16", "ort int8-static"}
    history = History.from_json((tmp_path / "made" / "training.json").read_bytes())
    name, title, least = TASKS[task]
    assert (history.measure.name, history.measure.title) == (name, title)
    score = history.best.validation_score
    assert score is not None
    assert score > least if history.measure.higher_is_better else score < least
    assert f"validation {title}" in (tmp_path / "made" / "report.md").read_text(encoding="utf-8")
    assert (EXAMPLES / f"{task}_recipe.py").read_text(encoding="utf-8").count("\n") < 60


def test_no_example_is_left_out() -> None:
    recipes = {f"{task}_recipe.py" for task in (*TASKS, "wine", "pictures")}
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*recipes, "factory.py", "library.py"}


@pytest.mark.parametrize(
    "kind", ["shards", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("folders", "arrow"))]
)
def test_pictures_are_read_when_they_are_asked_for(
    kind: str, nnx: Nnx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write = {"folders": stored_pictures.class_folders, "shards": stored_pictures.shards, "arrow": stored_pictures.arrow}
    write[kind](tmp_path / "data", {"train": range(150)})
    recipe = f"{EXAMPLES / 'pictures_recipe.py'}:{kind}"
    code, _, err = nnx("train", recipe, "--data", "data", "--out", "made", "--no-compile", "--workers", "2")
    assert code == 0, err
    history = History.from_json((tmp_path / "made" / "training.json").read_bytes())
    assert history.best.validation_score == 1
    assert json.loads((tmp_path / "made" / "preprocessing.json").read_text())["height"] == 32


def test_a_broken_picture_ends_the_command_or_is_named_at_its_end(
    nnx: Nnx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stored_pictures.class_folders(tmp_path / "data", {"train": range(150)})
    broken = tmp_path / "data" / "train" / "cat" / "00003.png"
    broken.write_bytes(b"")
    train = ["train", f"{EXAMPLES / 'pictures_recipe.py'}:folders", "--data", "data", "--out", "made", "--epochs", "1"]
    code, _, err = nnx(*train, "--no-compile")
    assert code == 2
    assert f"{Path('data/train/cat/00003.png')} is not a readable image." in " ".join(err.split())
    assert "--max-bad" in err
    code, _, err = nnx(*train, "--no-compile", "--max-bad", "1")
    assert code == 0, err
    said = " ".join(err.split())
    assert "1 sample was skipped, the next one taken instead: data/train/cat/00003.png is not a readable image" in said
    assert reading.MAX_BAD.get() == 0  # of that command alone

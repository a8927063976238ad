"""Bad input gets one sentence what, one what to do, the right exit code, no traceback, and no half-written file."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

Nnx = Callable[..., tuple[int, str, str]]

FACTORIES = """
import torch
def make(): return torch.nn.Linear(4, 2)
def with_examples(): return torch.nn.Linear(4, 2), {"x": torch.zeros(2, 4)}
def raises(): raise ValueError("no such size")
def not_a_module(): return 7
value = 7
class Wrong(torch.nn.Module):
    def forward(self, x): return x + 1 if x.sum() > 0 else x - 1
def branches(): return Wrong(), {"x": torch.zeros(2, 4)}
class Noisy(torch.nn.Module):
    def forward(self, x): return x + torch.rand_like(x)
def random(): return Noisy(), {"x": torch.zeros(2, 4)}
"""


@pytest.fixture
def place(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a good model, calibration data, factories, and many kinds of damage."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(digits / "model.onnx", "model.onnx")
    shutil.copy(digits / "model.fp16.onnx", "half.onnx")
    shutil.copy(digits / "model.int8-static.onnx", "int8.onnx")
    Path("truncated.onnx").write_bytes(Path("model.onnx").read_bytes()[:5000])
    Path("text.onnx").write_text("this is not a model\n")
    Path("empty.onnx").touch()
    Path("factories.py").write_text(FACTORIES)
    Path("broken.pt2").write_bytes(b"PK\3\4 and no more")
    Path("broken.py").write_text("import nowhere_to_be_found\n")
    Path("folder").mkdir()
    random = np.random.default_rng(0)
    good = random.normal(size=(8, 1, 8, 8)).astype(np.float32)
    np.savez("good.npz", image=good)
    np.savez("name.npz", picture=good)
    np.savez("shape.npz", image=random.normal(size=(8, 1, 9, 9)).astype(np.float32))
    np.savez("dtype.npz", image=good.astype(np.float64))
    np.savez("none.npz", image=good[:0])
    np.savez("nan.npz", image=np.where(good > 1, np.nan, good))
    np.savez("labels.npz", image=good + 1, labels=np.arange(8) + 3)
    Path("text.npz").write_text("no archive")
    model = onnx.load("model.onnx")
    onnx.save(model, "external.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    Path("weights.bin").unlink()
    model = onnx.load("model.onnx")
    torch.save({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, "fits.pt")
    torch.save({"weight": torch.zeros(3, 4), "other": torch.zeros(2)}, "unfit.pt")
    Path("text.pt").write_text("no checkpoint")
    return tmp_path


CASES = [
    # what is typed, exit code, a part of what is said
    (["run", "cifar"], 2, "no recipe 'cifar'"),
    (["run", "nowhere.py:recipe"], 2, "nowhere.py"),
    (["run", "factories.py:nothing"], 2, "has no 'nothing'"),
    (["run", "factories.py:value"], 2, "not a Recipe"),
    (["run", "broken.py:recipe"], 2, "nowhere_to_be_found"),
    (["run", "cifar10"], 2, "--data"),
    (["run", "cifar10", "--data", "folder"], 2, "cifar-10-batches-py/test_batch"),
    (["run", "sst2", "--data", "folder"], 2, "train.tsv"),
    (["run", "digits", "--provider", "gpu"], 2, "no provider 'gpu'"),
    (["run", "digits", "--batch", "0"], 2, "from 1 on"),
    (["run", "digits", "--batch", "many"], 2, "from 1 on"),
    (["run", "digits", "--epochs", "0"], 2, "epochs"),
    (["run", "digits", "--opset", "7"], 2, "18<=x<=26"),
    (["train", "digits", "--lr", "-1"], 2, "learning rate"),
    (["train", "digits", "--device", "cuda"], 3, "no CUDA device"),
    (["train", "digits", "--amp", "int8"], 2, "int8"),
    (["train", "cifar"], 2, "no recipe 'cifar'"),
    (["train", "digits", "--out", "new/place", "--lr", "-1"], 2, "learning rate"),
    (["train", "cifar10", "--data", "folder", "--ablate"], 2, "cifar-10-batches-py/test_batch"),
    (["export", "nothing"], 2, "no recipe 'nothing'"),
    (["export", "cifar10"], 2, "--data"),
    (["export", "factories.py:random", "-o", "new/place/x.onnx"], 1, "Parity failed"),
    (["export", "factories.py:make"], 2, "not known what factories.py:make takes"),
    (["export", "factories.py:make", "--input", "x=float32[1,5]"], 2, "does not run on these inputs"),
    (["export", "factories.py:make", "--input", "x:1,4"], 2, "cannot be read"),
    (["export", "factories.py:make", "--input", "x=floaty[1,4]"], 2, "cannot be read"),
    (["export", "factories.py:make", "--input", "x=float32[1,4]", "--weights", "unfit.pt"], 2, "missing bias"),
    (["export", "factories.py:make", "--input", "x=float32[1,4]", "--weights", "text.pt"], 2, "not a checkpoint"),
    (["export", "factories.py:make", "--input", "x=float32[1,4]", "--weights", "no.pt"], 2, "no checkpoint no.pt"),
    (["export", "factories.py:make", "--input", "x=float32[1,4]", "--opset", "30"], 2, "18<=x<=26"),
    (["export", "factories.py:raises"], 2, "no such size"),
    (["export", "factories.py:make", "--arg", "width=3"], 2, "make() takes nothing, and no width"),
    (["export", "factories.py:make", "--arg", "width"], 2, "cannot be read"),
    (["export", "factories.py:make", "--arg", "width=[1"], 2, "is not JSON"),
    (["export", "factories.py:make", "--arg", "deep=True"], 2, "Write true"),
    (["export", "factories.py:make", "--key", "ema"], 2, "about the file of --weights"),
    (["export", "factories.py:make", "--weights", "unfit.pt", "--key", "ema"], 2, "no dict under 'ema'"),
    (["export", "factories.py:make", "--input-data", "factories.py:value"], 2, "not a list of calls"),
    (["export", "factories.py:make", "--input-data", "no.npz"], 2, "no.npz"),
    (["convert", "model.onnx"], 2, "add --fp16, --bf16, --fix"),
    (["convert", "model.onnx", "--fp16", "--strip"], 2, "form first"),
    (["convert", "model.onnx", "--rename", "image"], 2, "not something like image=pixels"),
    (["convert", "model.onnx", "--rename", "nothing=image"], 2, "no input or output 'nothing'"),
    (["convert", "model.onnx", "--fix", "n=1"], 2, "No input has an open axis 'n'"),
    (["convert", "model.onnx", "--to", "nowhere"], 2, "No node makes 'nowhere'"),
    (["export", "no.pt2"], 2, "There is no file no.pt2"),
    (["export", "broken.pt2"], 2, "no .pt2 archive"),
    (["export", "digits", "--arg", "width=3"], 2, "knows its model"),
    (["export", "no_such_module:make"], 2, "No module named 'no_such_module'"),
    (["export", "factories.py:not_a_module"], 2, "not_a_module() is a int, not a module"),
    (["export", "factories.py:value"], 2, "value is a int, not a module"),
    (["export", "factories.py:branches"], 2, "could not be exported"),
    (["export", "factories.py:random"], 1, "Parity failed"),
    (["export", "factories.py:with_examples", "-o", "factories.py/x.onnx"], 2, "cannot be written"),
    (["convert", "no.onnx", "--fp16"], 2, "no model file no.onnx"),
    (["convert", "no.onnx", "--fp16", "-o", "new/place/h.onnx"], 2, "no model file no.onnx"),
    (["convert", "text.onnx", "--fp16"], 2, "not an ONNX file"),
    (["convert", "empty.onnx", "--fp16"], 2, "no ONNX graph"),
    (["convert", "truncated.onnx", "--fp16"], 2, "truncated"),
    (["convert", "folder", "--fp16"], 2, "is a directory"),
    (["convert", "half.onnx", "--fp16"], 2, "fp16 already"),
    (["convert", "model.onnx", "--fp16", "-o", "model.onnx"], 2, "is what is to be read"),
    (["convert", "model.onnx", "--fp16", "--keep-fp32", "nobody"], 2, "no node named nobody"),
    (["convert", "model.onnx", "--fp16", "--calibration", "no.npz"], 2, "no data file no.npz"),
    (["convert", "model.onnx", "--fp16", "--calibration", "shape.npz"], 2, "9, 9"),
    (["quantize", "model.onnx"], 2, "--int8"),
    (["quantize", "model.onnx", "--int8", "--mode", "static"], 2, "needs calibration data"),
    (["quantize", "model.onnx", "--int8", "--calibration", "name.npz"], 2, "picture"),
    (["quantize", "model.onnx", "--int8", "--calibration", "shape.npz"], 2, "9, 9"),
    (["quantize", "model.onnx", "--int8", "--calibration", "dtype.npz"], 2, "float64"),
    (["quantize", "model.onnx", "--int8", "--calibration", "none.npz"], 2, "at least one"),
    (["quantize", "model.onnx", "--int8", "--calibration", "nan.npz"], 2, "NaN"),
    (["quantize", "model.onnx", "--int8", "--calibration", "text.npz"], 2, "not an .npz"),
    (["quantize", "model.onnx", "--int8", "--calibration", "no.npz"], 2, "no data file no.npz"),
    (["quantize", "model.onnx", "--int8", "--samples", "0"], 2, "0"),
    (["quantize", "int8.onnx", "--int8", "--calibration", "good.npz"], 2, "quantized already"),
    (["quantize", "model.onnx", "--int8", "--int4"], 2, "Choose one"),
    (["quantize", "model.onnx", "--int4", "--target", "toaster"], 2, "no target 'toaster'"),
    (["quantize", "model.onnx", "--int4", "--method", "mse"], 2, "--method would do nothing for int4"),
    (["quantize", "model.onnx", "--int8", "--skip", "stem-fold"], 2, "--skip would do nothing for int8-dynamic"),
    (["quantize", "model.onnx", "--int8", "--block-size", "64"], 2, "--block-size would do nothing"),
    (["quantize", "model.onnx", "--int8", "--no-search", "--budget", "1m"], 2, "--budget would do nothing with --no"),
    (["quantize", "model.onnx", "--int8", "--max-drop", "1", "--budget", "soon"], 2, "90s, 10m or 1h"),
    (["quantize", "model.onnx", "--int8", "--max-drop", "200"], 2, "no number of points from 0 to 100"),
    (["quantize", "model.onnx", "--int8", "--plan", "half.onnx"], 2, "not a plan"),
    (["quantize", "model.onnx", "--int8", "--plan", "no.json"], 2, "no plan no.json"),
    (["quantize", "model.onnx", "--int8", "--exclude", "nobody"], 2, "no node named nobody"),
    (["quantize", "model.onnx", "--int8", "-o", "model.onnx"], 2, "is what is to be read"),
    (["quantize", "model.onnx", "--int8", "--eval", "nan.npz"], 2, "NaN"),
    (["quantize", "model.onnx", "--int8", "--eval", "factories.py:raises"], 2, "no such size"),
    (["quantize", "model.onnx", "--int8", "--eval", "factories.py:value"], 2, "is a int"),
    (["quantize", "model.onnx", "--int8", "--calibration", "good.npz", "--percentile", "50"], 2, "--method percentile"),
    (
        [
            "quantize",
            "model.onnx",
            "--int8",
            "--calibration",
            "good.npz",
            "--method",
            "percentile",
            "--percentile",
            "0",
        ],
        2,
        "no percentile",
    ),
    (["quantize", "model.onnx", "--int8", "--calibration", "good.npz", "--memory-budget", "much"], 2, "500MB or 2GB"),
    (["quantize", "model.onnx", "--int8", "--calibration", "good.npz", "--max-drop", "1"], 2, "without labels"),
    (["quantize", "model.onnx", "--int8", "--calibration", "good.npz", "--eval", "labels.npz"], 2, "labels go from 3"),
    (["quantize", "external.onnx", "--int8"], 2, "Copy the external data file"),
    (["convert", "model.onnx", "--fp16", "--bf16"], 2, "Choose one"),
    (["convert", "model.onnx", "--bf16", "--fp16-io"], 2, "goes with --fp16"),
    (["explain", "no.onnx"], 2, "no model file no.onnx"),
    (["quantize", "int8.onnx", "--int8"], 2, "quantized already"),
    (["quantize", "text.onnx", "--int8"], 2, "not an ONNX file"),
    (["quantize", "text.onnx", "--int8", "-o", "new/place/q.onnx"], 2, "not an ONNX file"),
    (
        ["quantize", "text.onnx", "--int8", "--max-drop", "1", "--save-plan", "new/place/plan.json"],
        2,
        "not an ONNX file",
    ),
    (["bench", "no.onnx"], 2, "no model file no.onnx"),
    (["bench", "no.onnx", "-o", "new/place/bench.json"], 2, "no model file no.onnx"),
    (["report", "no.json", "-o", "new/place/page.html"], 2, "no.json"),
    (["bench", "folder"], 2, "not an artifacts folder"),
    (["bench", "model.onnx", "--provider", "gpu"], 2, "cpu, cuda"),
    (["bench", "model.onnx", "--provider", "qnn"], 3, "QNNExecutionProvider"),
    (["bench", "model.onnx", "--provider", "cuda"], 3, "nnx-toolchain[gpu]"),
    (["bench", "model.onnx", "--threads", "0"], 2, "threads"),
    (["bench", "model.onnx", "--samples", "shape.npz", "--batch", "2"], 1, "9, 9"),
    (["bench", "model.onnx", "model.onnx"], 2, "the same"),
    (["bench", "model.onnx", "--json", "--csv"], 2, "one of --json"),
    (["bench"], 2, "TARGET"),
]


@pytest.mark.parametrize(("typed", "code", "said"), CASES, ids=[" ".join(typed) for typed, _, _ in CASES])
def test_bad_input(typed: list[str], code: int, said: str, place: Path, nnx: Nnx) -> None:
    if "cuda" in typed and torch.cuda.is_available():
        pytest.skip("CUDA is here")
    before = files_and_folders(place)
    ended, out, err = nnx(*typed)
    assert ended == code, err
    assert said in out + err
    assert "Traceback" not in err
    assert files_and_folders(place) == before


@pytest.mark.parametrize(
    "typed", ["quantize broken.onnx --int8 --mode dynamic", "convert broken.onnx --fp16", "explain broken.onnx"]
)
def test_a_model_that_onnx_runtime_refuses_is_no_fault_of_nnx(
    typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nnx: Nnx
) -> None:
    monkeypatch.chdir(tmp_path)
    lookup = onnx.helper.make_node("Gather", ["table", "x"], ["y"], "lookup", axis=[0])  # a number it should be
    onnx.save(
        onnx.helper.make_model(
            onnx.helper.make_graph(
                [lookup], "g",
                [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.INT64, ["n", 3])],
                [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3, 4])],
                [onnx.numpy_helper.from_array(np.zeros((5, 4), np.float32), "table")],
            ),
            opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8,
        ), "broken.onnx",
    )  # fmt: skip
    code, _, err = nnx(*typed.split())
    assert code == 2, err
    assert "ONNX Runtime refuses broken.onnx" in err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["broken.onnx"]


def files_and_folders(place: Path) -> dict[Path, int]:
    """All there is, and when its content was changed; but for what Python keeps of the modules that it loaded."""
    found = [path for path in place.rglob("*") if "__pycache__" not in str(path)]
    return {path: path.stat().st_mtime_ns if path.is_file() else 0 for path in found}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_found_before_the_work(place: Path, nnx: Nnx) -> None:
    Path("folder").chmod(0o500)
    code, _, err = nnx("convert", "model.onnx", "--fp16", "-o", "folder/h.onnx")
    assert code == 2
    assert "cannot be written" in err


def test_a_full_disk_is_said_and_leaves_nothing(place: Path, nnx: Nnx, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    code, _, err = nnx("convert", "model.onnx", "--fp16", "-o", "h.onnx")
    assert code == 3
    assert "disk is full" in err
    assert not [path for path in place.iterdir() if "h.onnx" in path.name]


def test_traceback_shows_where_a_known_error_came_from(place: Path, nnx: Nnx) -> None:
    _, _, err = nnx("--traceback", "convert", "no.onnx", "--fp16")
    assert "Traceback" in err
    assert "no model file no.onnx" in err

"""`nnx explain` on the digits run, and what it advises."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtimes.ort_profile import Unfused
from tests.end_to_end.command import run_nnx
from toolchain.layers.explain import HEADINGS, advice, cells
from toolchain.layers.record import ExplainedLayer

Nnx = Callable[..., tuple[int, str, str]]


def layer(name: str, own: float, share: float, **other: object) -> ExplainedLayer:
    facts = {"op_type": "Conv", "output": "y", "precision": "int8", "weight_bytes": 1234, "accumulated_sqnr_db": 30.0}
    return ExplainedLayer(**{**facts, **other}, name=name, own_sqnr_db=own, noise_share=share)  # type: ignore[arg-type]


@pytest.fixture
def place(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(digits, tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_command_in_a_process_of_its_own(digits: Path, tmp_path: Path) -> None:
    ended = run_nnx(
        "explain", digits / "model.int8-static.onnx", "--reference", digits / "model.onnx", "--samples", "digits",
        "--threads", "1", cwd=tmp_path,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    title, headings, *lines = ended.stdout.splitlines()
    assert "int8-static" in title
    assert "on the test split of digits." in ended.stdout
    assert [name for name in HEADINGS if name in headings] == list(HEADINGS)
    assert sum("QLinearConv" in line for line in lines) == 3
    assert sum("QGemm" in line for line in lines) == 1
    assert "1 node runs in float between Q and DQ (node_mean)" in lines[-1]
    assert re.search(r"A run at batch 1 \(image [^)]*8[^)]*\) with 1 thread takes", ended.stdout)
    assert list(tmp_path.iterdir()) == []


def test_the_records_as_json(place: Path, nnx: Nnx) -> None:
    code, out, err = nnx(
        "explain", "digits/model.int8-static.onnx", "--reference", "digits/model.onnx", "--samples", "digits", "--json"
    )
    assert code == 0, err
    found = json.loads(out)
    assert (found["schema_version"], found["precision"], found["batch"]) == (1, "int8-static", 1)
    layers = found["layers"]
    assert [each["own_sqnr_db"] for each in layers] == sorted(each["own_sqnr_db"] for each in layers)
    assert all(20 < each["accumulated_sqnr_db"] < 80 for each in layers)
    assert sum(each["noise_share"] for each in layers) == pytest.approx(1)
    assert sum(each["time_share"] for each in layers) + found["conversion_share"] == pytest.approx(1)
    heavy = {each["runs_as"] for each in layers if each["op_type"] in ("Conv", "Gemm")}
    assert heavy == {"QLinearConv", "QGemm"}
    assert {each["precision"] for each in layers if each["op_type"] == "ReduceMean"} == {"fp32"}
    stored = Path("digits/model.int8-static.onnx").stat().st_size
    assert 0.5 * stored < sum(each["weight_bytes"] for each in layers) < stored
    assert found["advice"]


def test_without_a_reference_there_is_precision_size_and_time(place: Path, nnx: Nnx) -> None:
    code, out, err = nnx("explain", "digits/model.onnx", "--threads", "1", "--json")
    assert code == 0, err
    assert "seeded random" in err
    found = json.loads(out)
    assert {each["own_sqnr_db"] for each in found["layers"]} == {None}
    assert {each["precision"] for each in found["layers"]} == {"fp32"}
    shares = [each["time_share"] for each in found["layers"]]
    assert shares == sorted(shares, reverse=True)
    assert [each["op_type"] for each in found["layers"]].count("Conv") == 3
    assert found["unfused"] == []


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (["nowhere.onnx"], "There is no model file nowhere.onnx"),
        (["digits/model.onnx", "--reference", "nowhere.onnx"], "There is no model file nowhere.onnx"),
        (["digits/model.onnx", "--samples", "nowhere.npz"], "nowhere.npz"),
        (["digits/model.int8-static.onnx", "--reference", "other.onnx"], "was not made from other.onnx"),
        (["digits/model.onnx", "--samples", "other.npz"], "Input 'image' is float32[1, 1, 9, 9]"),
    ],
)
def test_what_cannot_be_explained_says_so(given: list[str], what: str, place: Path, nnx: Nnx) -> None:
    import onnx

    model = onnx.load("digits/model.onnx")
    for node in model.graph.node:
        node.input[:] = [
            name if name in ("image",) or "." in name or "val" in name else f"{name}_" for name in node.input
        ]
        node.output[:] = [f"{name}_" for name in node.output]
    model.graph.output[0].name += "_"
    onnx.save(model, "other.onnx")
    np.savez("other.npz", image=np.zeros((2, 1, 9, 9), np.float32))
    code, out, err = nnx("explain", *given)
    assert code == 2
    assert out == ""
    assert what in err
    assert "Traceback" not in err


def test_a_reference_that_is_not_the_parent_is_said(place: Path, nnx: Nnx) -> None:
    import onnx

    model = onnx.load("digits/model.onnx")
    model.doc_string = "saved again"
    onnx.save(model, "again.onnx")
    code, _, err = nnx("explain", "digits/model.int8-static.onnx", "--reference", "again.onnx", "--samples", "digits")
    assert code == 0
    assert "made from another file than again.onnx" in err


def test_the_advice_names_a_layer_that_stands_out() -> None:
    two = [layer("conv_1", 12.0, 0.62), layer("conv_2", 30.0, 0.38)]
    assert advice(two, []) == ["conv_1 alone makes 62% of the noise (12 dB): try --exclude conv_1."]
    assert advice(two, [], option="--keep-fp32")[0].endswith("try --keep-fp32 conv_1.")
    even = [layer(f"conv_{index}", 30.0, 0.25) for index in range(4)]
    assert advice(even, []) == ["No layer stands out: the worst, conv_0, makes 25% of the noise (30 dB)."]
    assert advice([layer("conv_1", 70.0, 1.0)], []) == ["No layer does harm: the worst, conv_1, has 70 dB of its own."]
    assert advice([], []) == []


def test_the_advice_counts_what_did_not_fuse() -> None:
    left = [
        Unfused(name=name, op_type=operator, mean_us=1.0, share=0.1, why="")
        for name, operator in [("a", "Conv"), ("b", "Conv"), ("c", "Div"), ("d", "Gelu"), ("q", "QuantizeLinear")]
    ]
    assert advice([], left) == [
        "4 nodes run in float between Q and DQ (a, b, c and 1 more); "
        "with the Q and DQ nodes inside the graph they take 50% of the time."
    ]


def test_cells_of_the_extremes() -> None:
    row = dict(
        zip(HEADINGS, cells(layer("relu", 200.0, 0.0, fused_into="conv", accumulated_sqnr_db=-200.0)), strict=True)
    )
    assert (row["own dB"], row["accumulated dB"], row["runs as"], row["time"]) == ("exact", "none", "in conv", "–")
    row = dict(zip(HEADINGS, cells(layer("gap", 0.0, 0.0, accumulated_sqnr_db=None, precision="")), strict=True))
    assert (row["accumulated dB"], row["runs as"], row["precision"], row["weights kB"]) == ("–", "–", "–", "1.2")

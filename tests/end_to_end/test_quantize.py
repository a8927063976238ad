"""The gate, the search and its plan, targets, sources of data, and the other precisions, through the real command."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from exporters import onnx_file, provenance
from exporters.model_file import ModelFile
from tests import stored_pictures
from toolchain.recipes.digits import recipe
from toolchain.recipes.rows import Rows

Nnx = Callable[..., tuple[int, str, str]]
PLAIN = ["--method", "minmax", "--skip", "equalization", "--skip", "bias-correction"]


@pytest.fixture
def place(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the digits net, and the same function with a wild channel that plain int8 cannot bear."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(digits / "model.onnx", "model.onnx")
    onnx_file.save(wild(ModelFile(Path("model.onnx")).proto), Path("wild.onnx"))
    data = recipe.data(None).load()
    rows = Rows(recipe, data)
    test, train = (rows.arrays(split)[0]["image"] for split in (data.test, data.train))
    np.savez("test.npz", image=test, labels=data.test.targets)
    np.savez("train.npz", image=train[:300])
    np.save("train.npy", train[:300])
    return tmp_path


def wild(model: onnx.ModelProto) -> onnx.ModelProto:
    """Channel 0 between the second and the third convolution 3,000 times larger, its weights there as much smaller."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    second, third = [node for node in model.graph.node if node.op_type == "Conv"][1:3]
    for node, index, factor in ((second, 1, 3000), (second, 2, 3000), (third, 1, 1 / 3000)):
        tensor = tensors[node.input[index]]
        values = numpy_helper.to_array(tensor).copy()
        values[(slice(None), 0) if node is third else 0] *= np.float32(factor)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model


def quantize(nnx: Nnx, *arguments: object) -> tuple[int, dict[str, object], str]:
    code, out, err = nnx("quantize", *arguments, "--int8", "--no-time", "--json")
    return code, json.loads(out) if out else {}, err


def test_the_gate_passes_what_keeps_its_accuracy(place: Path, nnx: Nnx) -> None:
    code, made, err = quantize(nnx, "model.onnx", "--calibration", "digits", "--max-drop", 2)
    assert code == 0, err
    assert made["verdict"]["status"] == "ok"  # type: ignore[index]
    assert made["plan"] is None


def test_a_file_of_samples_needs_no_torch(place: Path) -> None:
    """Which takes a second to import, and the memory of a model."""
    options = ["--int8", "--no-time", "--calibration", "train.npz", "--eval", "test.npz", "--max-drop", "2"]
    command = [sys.executable, "-X", "importtime", "-m", "toolchain", "quantize", "model.onnx", *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=place)
    assert {"onnxruntime", "torch"} & {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()} == {
        "onnxruntime"
    }


def test_the_gate_fails_what_loses_too_much(place: Path, nnx: Nnx) -> None:
    code, _, err = quantize(nnx, "wild.onnx", *PLAIN, "--calibration", "digits", "--max-drop", 2, "--no-search")
    assert code == 1
    assert "the drop in accuracy is" in err
    assert not list(place.glob("wild.int8*"))


def test_what_is_plainly_broken_fails_without_a_requirement_too(place: Path, nnx: Nnx) -> None:
    code, _, err = quantize(nnx, "wild.onnx", *PLAIN, "--calibration", "digits", "--no-search")
    assert code == 1
    assert "Parity failed" in err
    assert not list(place.glob("wild.int8*"))
    code, made, err = quantize(nnx, "wild.onnx", *PLAIN, "--calibration", "digits")  # which is searched for by itself
    assert code == 0, err
    assert made["plan"]["exclude"]  # type: ignore[index]


def test_too_few_samples_leave_it_undecided(place: Path, nnx: Nnx) -> None:
    code, _, err = quantize(nnx, "model.onnx", "--calibration", "digits", "--max-drop", 0.1)
    assert code == 4
    assert "samples to tell" in err
    assert not list(place.glob("model.int8*"))


def test_the_search_finds_the_nodes_and_its_plan_can_be_replayed(place: Path, nnx: Nnx) -> None:
    wanted = [*PLAIN, "--calibration", "train.npz", "--eval", "test.npz", "--max-drop", 4]
    code, made, err = quantize(nnx, "wild.onnx", *wanted, "--save-plan", "plan.json", "-o", "a.onnx")
    assert code == 0, err
    plan = made["plan"]
    assert 1 <= len(plan["exclude"]) <= 3  # type: ignore[index]
    assert not list(place.glob("*.search.json"))
    assert json.loads(Path("plan.json").read_text()) == plan
    code, again, err = quantize(nnx, "wild.onnx", *wanted, "--plan", "plan.json", "--no-search", "-o", "b.onnx")
    assert code == 0, err
    assert again["sha256"] == made["sha256"]
    assert provenance.read(ModelFile(Path("b.onnx")).proto)["float_nodes"] == ", ".join(sorted(plan["exclude"]))  # type: ignore[index]


def test_equalization_makes_the_search_needless(place: Path, nnx: Nnx) -> None:
    code, made, err = quantize(nnx, "wild.onnx", "--calibration", "digits", "--max-drop", 2)
    assert code == 0, err
    assert made["plan"] is None
    assert any(note.startswith("equalization") for note in made["notes"])  # type: ignore[attr-defined]


def test_without_labels_the_gate_goes_by_sqnr(place: Path, nnx: Nnx) -> None:
    code, made, err = quantize(nnx, "model.onnx", "--calibration", "train.npz", "--min-sqnr", 20)
    assert code == 0, err
    assert made["verdict"]["sqnr_db"]["estimate"] > 20  # type: ignore[index]
    code, _, err = quantize(nnx, "model.onnx", "--calibration", "train.npz", "--max-drop", 1)
    assert code == 2
    assert "without labels" in err


def test_calibrating_on_what_judges_is_refused(place: Path, nnx: Nnx) -> None:
    np.savez("both.npz", image=np.load("test.npz")["image"][5:50])
    code, _, err = quantize(nnx, "model.onnx", "--calibration", "both.npz", "--eval", "test.npz")
    assert code == 2
    assert "45 of the 45 calibration samples" in err


@pytest.mark.parametrize("source", ["train.npy", "train.npz", "factory.py:batches"])
def test_sources_of_data_give_the_same_file(source: str, place: Path, nnx: Nnx) -> None:
    Path("factory.py").write_text(
        "import numpy as np\n"
        "def batches():\n"
        "    images = np.load('train.npy')\n"
        "    for start in range(0, 300, 7):\n"
        "        yield {'image': images[start:start + 7]}\n"
    )
    wanted = ["--samples", 300, "--eval", "test.npz"]
    code, made, err = quantize(nnx, "model.onnx", "--calibration", source, *wanted)
    assert code == 0, err
    code, other, err = quantize(nnx, "model.onnx", "--calibration", "train.npz", *wanted, "-o", "other.onnx")
    assert made["sha256"] == other["sha256"]


def test_a_folder_of_images_fits_an_image_model(place: Path, nnx: Nnx) -> None:
    random = np.random.default_rng(0)
    for index in range(12):
        folder = Path("images") / str(index % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    code, _, err = quantize(nnx, "model.onnx", "--calibration", "images")
    assert code == 2
    assert "N x 3 x H x W" in err
    weight = numpy_helper.from_array(random.normal(size=(16, 3, 3, 3)).astype(np.float32), "w")
    shapes: dict[str, list[str | int]] = {"x": ["batch", 3, 16, 16], "y": ["batch", 16, 16, 16]}
    values = [onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()]
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1, 1, 1, 1])
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:], [weight])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), "i.onnx")
    code, made, err = quantize(nnx, "i.onnx", "--calibration", "images", "--samples", 8)
    assert code == 0, err
    assert "ImageNet" in str(made["proven_on"])
    pictures = [(path.stem, {"png": path.read_bytes(), "cls": path.parent.name.encode()}) for path in images()]
    stored_pictures.shard(Path("shards/train-000000.tar"), pictures[:6])
    stored_pictures.shard(Path("shards/train-000001.tar"), pictures[6:])
    code, same, err = quantize(nnx, "i.onnx", "--calibration", "shards/train-{000000..000001}.tar", "--samples", 8)
    assert code == 0, err
    assert same["sha256"] == made["sha256"]  # the same pictures in the same order
    images()[0].write_bytes(b"")
    code, _, err = quantize(nnx, "i.onnx", "--calibration", "images", "--samples", 8)
    assert code == 2
    assert "--max-bad" in err
    code, _, err = quantize(nnx, "i.onnx", "--calibration", "images", "--samples", 8, "--max-bad", 1)
    assert code == 0, err
    assert "1 that cannot be read left out" in " ".join(err.split())


def images() -> list[Path]:
    return sorted(Path("images").rglob("*.png"))


def test_the_cache_serves_the_second_call(place: Path, nnx: Nnx) -> None:
    for _ in range(2):
        code, _, err = quantize(nnx, "model.onnx", "--calibration", "digits")
        assert code == 0
    assert "known from an earlier calibration" in err
    code, _, err = quantize(nnx, "model.onnx", "--calibration", "digits", "--no-cache")
    assert "known from" not in err


def test_json_is_valid_even_where_a_figure_is_infinite(place: Path, nnx: Nnx) -> None:
    """A net whose weights bfloat16 holds exactly: no noise, an infinite SQNR."""
    weight = numpy_helper.from_array(np.eye(64, dtype=np.float32), "w")
    values = [onnx.helper.make_tensor_value_info(name, 1, ["batch", 64]) for name in "xy"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"], "product")], "g", values[:1], values[1:], [weight]
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), "e.onnx")
    code, out, err = nnx("convert", "e.onnx", "--bf16", "--json")
    assert code == 0, err

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(out, parse_constant=refuse)["parity"]["sqnr_db"] is None


def test_a_search_works_for_other_precisions(place: Path, nnx: Nnx) -> None:
    """Two products with a Gelu between: each may go back to fp32, the Gelu is none of int4's business."""
    random = np.random.default_rng(0)
    shapes = {"w": (64, 96), "v": (96, 64)}
    tensors = [
        numpy_helper.from_array(random.normal(size=shape).astype(np.float32) / 8, n) for n, shape in shapes.items()
    ]
    values = [onnx.helper.make_tensor_value_info(name, 1, ["batch", 64]) for name in "xy"]
    make = onnx.helper.make_node
    nodes = [make("MatMul", ["x", "w"], ["h"]), make("Gelu", ["h"], ["g"]), make("MatMul", ["g", "v"], ["y"])]
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), "l.onnx")
    np.savez("x.npz", x=random.normal(size=(400, 64)).astype(np.float32))
    wanted = ["quantize", "l.onnx", "--int4", "--eval", "x.npz", "--no-time", "--json"]
    code, out, err = nnx(*wanted, "--min-sqnr", 19.5)
    assert code == 0, err
    assert len(json.loads(out)["plan"]["exclude"]) == 1
    code, _, err = nnx(*wanted, "--min-sqnr", 60, "-o", "never.onnx")
    assert code == 1
    assert "Only the original meets the requirement" in err
    assert not list(place.glob("*never*"))


def test_explain_takes_every_kind_of_samples(place: Path, nnx: Nnx) -> None:
    code, out, err = nnx("explain", "model.onnx", "--samples", "train.npy")
    assert code == 0, err
    assert "node_linear" in out


def test_target_list_is_a_table(nnx: Nnx) -> None:
    code, out, _ = nnx("quantize", "--target", "list")
    assert code == 0
    for target in ("x86-avx2", "x86-vnni", "x86-amx", "arm64", "arm64-dotprod", "cuda", "web"):
        assert target in out


def test_another_target_is_made_and_recorded(place: Path, nnx: Nnx) -> None:
    code, _, err = quantize(nnx, "model.onnx", "--calibration", "digits", "--target", "arm64")
    assert code == 0, err
    assert "int8 activations x int8 weights per channel for arm64" in err
    facts = provenance.read(ModelFile(Path("model.int8-static.onnx")).proto)
    assert "for arm64" in facts["int8_format"]


def test_both_are_timed(place: Path, nnx: Nnx) -> None:
    code, out, err = nnx("quantize", "model.onnx", "--int8", "--calibration", "digits")
    assert code == 0, err
    assert "speed over fp32 here" in out


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_halves_pass_the_gate(precision: str, place: Path, nnx: Nnx) -> None:
    code, out, err = nnx("convert", "model.onnx", f"--{precision}", "--calibration", "digits", "--max-drop", 1)
    assert code == 0, err
    assert f"model.{precision}.onnx: {precision}" in out
    assert "accuracy: passed" in out


def test_int4_of_a_linear_net(place: Path, nnx: Nnx) -> None:
    random = np.random.default_rng(0)
    weight = numpy_helper.from_array(random.normal(size=(256, 128)).astype(np.float32), "w")
    values = [onnx.helper.make_tensor_value_info(name, 1, ["batch", size]) for name, size in (("x", 256), ("y", 128))]
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:], [weight])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), "l.onnx")
    np.savez("x.npz", x=random.normal(size=(40, 256)).astype(np.float32))
    code, out, err = nnx("quantize", "l.onnx", "--int4", "--eval", "x.npz", "--min-sqnr", 15)
    assert code == 0, err
    assert "l.int4.onnx: int4" in out
    assert Path("l.int4.onnx").stat().st_size < 0.2 * Path("l.onnx").stat().st_size

"""Files beside a model that are not what it says: each a sentence, never a wait or a wild allocation."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import external_data, onnx_file
from exporters.errors import BadModelFile
from exporters.model_file import ModelFile

WEIGHT = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)


def model_of(weight: TensorProto) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"], "product")], "g", [x], [y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def write(folder: Path, **entries: str) -> Path:
    """m.onnx with its weight in m.data, whose place ``entries`` tell."""
    folder.mkdir(exist_ok=True)
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[64, 64])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": "m.data"} | entries).items():
        weight.external_data.add(key=key, value=value)
    (folder / "m.data").write_bytes(WEIGHT.tobytes())
    (folder / "m.onnx").write_bytes(model_of(weight).SerializeToString())
    return folder / "m.onnx"


def weight_of(path: Path) -> np.ndarray:
    return numpy_helper.to_array(ModelFile(path).proto.graph.initializer[0])


@pytest.mark.parametrize(
    "entries",
    [
        {}, {"offset": "0"}, {"offset": "0", "length": str(WEIGHT.nbytes)}, {"location": "./m.data"}, {"checksum": "a"},
    ],
)  # fmt: skip
def test_what_onnx_runtime_reads_is_read(entries: dict[str, str], tmp_path: Path) -> None:
    assert np.array_equal(weight_of(write(tmp_path, **entries)), WEIGHT)


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ({"location": "none.data"}, "no 'none.data'"),
        ({"location": ""}, "no file is named"),
        ({"location": "/etc/hostname"}, "no place in the model's folder"),
        ({"location": "../m.data"}, "no '../m.data'|outside"),
        ({"location": "."}, "no regular file|outside"),
        ({"location": "loop"}, "no 'loop'"),
        ({"location": "pipe"}, "no regular file"),
        ({"location": "away"}, "outside the model's folder"),
        ({"location": "x" * 5000}, "too long"),
        ({"offset": "4"}, "ends at byte 16,388"),
        ({"offset": "99999999999999999"}, "ends at byte"),
        ({"offset": "-4"}, "offset is no number"),
        ({"offset": "1e3"}, "offset is no number"),
        ({"length": "-1"}, "length is no number"),
        ({"length": "99"}, "wants 16,384 bytes, and 99"),
        ({"length": "99999999999"}, "wants 16,384 bytes"),
        ({"prepacked_0": "x"}, "unknown key"),
    ],
)
def test_what_is_broken_or_outside_is_named(entries: dict[str, str], why: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model", **entries)
    os.mkfifo(path.with_name("pipe"))
    path.with_name("loop").symlink_to("loop")
    (tmp_path / "elsewhere").write_bytes(WEIGHT.tobytes())
    path.with_name("away").symlink_to("../elsewhere")
    with pytest.raises(BadModelFile, match=why) as caught:
        _ = ModelFile(path).proto
    assert "beside it" in caught.value.what


def test_a_place_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data.add(key="location", value="m.data")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BadModelFile, match="given twice"):
        _ = ModelFile(path).proto


def test_links_into_one_folder_are_followed_as_onnx_runtime_follows_them(tmp_path: Path) -> None:
    """A cache: model and weights are links into a folder of blobs."""
    write(tmp_path / "blobs")
    (tmp_path / "blobs" / "m.onnx").rename(tmp_path / "blobs" / "aaa")
    (tmp_path / "blobs" / "m.data").rename(tmp_path / "blobs" / "bbb")
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "m.onnx").symlink_to("../blobs/aaa")
    (snapshot / "m.data").symlink_to("../blobs/bbb")
    file = ModelFile(snapshot / "m.onnx")
    assert np.array_equal(numpy_helper.to_array(file.proto.graph.initializer[0]), WEIGHT)
    assert file.size_bytes > WEIGHT.nbytes


def _huge(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [2**40, 2**40]


def _negative(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [-64, -64]


def _short(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = b"abc"


def _unknown(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 77


def _untyped(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 77


def _in_a_node(model: onnx.ModelProto) -> None:
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[5])
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


@pytest.mark.parametrize("damage", [_huge, _negative, _short, _unknown, _untyped, _in_a_node])
def test_constants_that_are_not_what_their_shape_says_are_named(
    damage: Callable[[onnx.ModelProto], None], tmp_path: Path
) -> None:
    model = model_of(numpy_helper.from_array(WEIGHT, "w"))
    damage(model)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BadModelFile, match="damaged"):
        ModelFile(tmp_path / "m.onnx")


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    data = model_of(numpy_helper.from_array(WEIGHT, "w")).SerializeToString()
    (tmp_path / "m.onnx").write_bytes(data.replace(b"product", b"prod\xff\xfe\xfd"))
    with pytest.raises(BadModelFile, match="not UTF-8"):
        ModelFile(tmp_path / "m.onnx")


def test_what_is_no_regular_file_or_too_large_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadModelFile, match="a device or a pipe"):
        ModelFile(tmp_path / "pipe")
    with pytest.raises(BadModelFile, match="too long"):
        ModelFile(tmp_path / ("x" * 300))
    (tmp_path / "m.onnx").write_bytes(b"0" * 2000)
    monkeypatch.setattr(onnx_file, "LARGEST_FILE", 1000)
    with pytest.raises(BadModelFile, match="at most 2 GB"):
        ModelFile(tmp_path / "m.onnx")


def test_the_size_of_a_model_is_told_without_writing_it() -> None:
    weights = [numpy_helper.from_array(np.ones((64, 64), np.float32), name) for name in "vw"]
    graph = helper.make_graph([helper.make_node("Add", ["v", "w"], ["y"])], "g", [], [], weights)
    model = helper.make_model(graph)
    assert 0 <= model.ByteSize() - external_data.size_of(model) < 100

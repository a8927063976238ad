"""A model in one file, read without its large weights: the same model, and the same word on what is none."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from exporters import external_data, large_weights, one_file, onnx_file
from exporters.errors import BadModelFile
from exporters.large_weights import array_of, is_stub
from exporters.model_file import ModelFile

SIDE = 40


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_file, "LARGE_BYTES", 0)
    monkeypatch.setattr(large_weights, "MIN_BYTES", 1000)


def model() -> onnx.ModelProto:
    """Weights as raw bytes, as a list of numbers and in a branch; a function, texts and properties."""
    made = np.random.default_rng(0)
    raw = numpy_helper.from_array(made.standard_normal((SIDE, SIDE)).astype(np.float32), "raw")
    raw.doc_string = "the first"
    listed = helper.make_tensor("listed", TensorProto.FLOAT, [SIDE, SIDE], made.standard_normal(SIDE**2).tolist())
    half = numpy_helper.from_array(made.standard_normal((SIDE, SIDE)).astype(np.float16), "half")
    small = numpy_helper.from_array(np.ones(3, np.int64), "small")
    inner = numpy_helper.from_array(made.standard_normal((SIDE, SIDE)).astype(np.float32), "inner")
    branch = helper.make_graph([], "b", [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)], [inner])
    nodes = [
        helper.make_node("Add", ["raw", "listed"], ["sum"], "add"),
        helper.make_node("Twice", ["sum"], ["twice"], "twice", domain="own"),
        helper.make_node("If", ["c"], ["y"], "if", then_branch=branch, else_branch=branch),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "twice")]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("c", TensorProto.BOOL, [])], outputs, [raw, small, listed, half]
    )
    graph.doc_string = "ein Graph"
    twice = helper.make_function(
        "own", "Twice", ["x"], ["z"], [helper.make_node("Add", ["x", "x"], ["z"])], [helper.make_opsetid("", 20)]
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    whole = helper.make_model(graph, opset_imports=opsets, functions=[twice], ir_version=10)
    helper.set_model_props(whole, {"a": "b"})
    return whole


def with_values(stubs: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(stubs)
    for tensor in made.graph.initializer:
        if is_stub(tensor):
            tensor.raw_data = b"".join(large_weights.chunks_of(tensor))
            tensor.ClearField("data_location")
            del tensor.external_data[:]
    return made


def test_it_is_the_model_that_protobuf_reads_but_for_large_weights(tmp_path: Path) -> None:
    onnx.save(model(), tmp_path / "m.onnx")
    found = one_file.load(tmp_path / "m.onnx")
    assert [tensor.name for tensor in found.graph.initializer if is_stub(tensor)] == ["raw", "half"]
    assert not any(tensor.raw_data for tensor in found.graph.initializer if is_stub(tensor))
    assert with_values(found) == model()


def test_a_small_file_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_file, "LARGE_BYTES", 1 << 20)
    onnx.save(model(), tmp_path / "m.onnx")
    assert one_file.load(tmp_path / "m.onnx") == model()


def test_a_model_file_is_one_file_with_its_hash_and_its_size(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(model(), path)
    file = ModelFile(path)
    assert file.has_stubs
    assert (file.external_files, file.size_bytes) == ((), path.stat().st_size)
    onnx_file.save(file.proto, path)
    assert with_values(one_file.load(path)) == model()
    assert external_data.data_of(path) is None


def test_what_is_no_model_is_what_protobuf_says(tmp_path: Path) -> None:
    """Cut at any place, or with any byte changed: the same model, or the same error."""
    data = model().SerializeToString()
    path, random = tmp_path / "m.onnx", np.random.default_rng(0)
    cuts = [data[:end] for end in random.integers(0, len(data), 150)]
    for place in [*range(60), *random.integers(0, len(data), 250)]:
        changed = bytearray(data)
        changed[place] ^= int(random.integers(1, 256))
        cuts.append(bytes(changed))
    raised = 0
    for content in cuts:
        path.write_bytes(content)
        try:
            wanted = onnx.load(path, load_external_data=False)
        except DecodeError:
            raised += 1
            with pytest.raises(DecodeError):
                one_file.load(path)
            continue
        found = one_file.load(path)
        if any(is_stub(tensor) for tensor in found.graph.initializer):
            found = with_values(found)
        assert found.SerializeToString(deterministic=True) == wanted.SerializeToString(deterministic=True)
    assert raised > 100


def test_a_weight_that_is_not_what_its_shape_says_is_named(tmp_path: Path) -> None:
    damaged = model()
    damaged.graph.initializer[0].dims[:] = [7, 7]
    onnx.save(damaged, tmp_path / "m.onnx")
    with pytest.raises(BadModelFile, match=r"'raw'.*wants 196 bytes, and it has 6,400"):
        ModelFile(tmp_path / "m.onnx")


def test_weights_beside_a_large_file_stay_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(model(), path, save_as_external_data=True, location="m.data", size_threshold=3000)
    file = ModelFile(path)
    assert [each.name for each in file.external_files] == ["m.data"]
    assert not large_weights.has_stubs(file.graph)
    assert np.array_equal(array_of(file.proto.graph.initializer[0]), array_of(model().graph.initializer[0]))

"""One file, or several that hang together: read once, measured whole."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import external_data, onnx_file, provenance
from exporters.atomic_file import sha256_of
from exporters.errors import BadModelFile, WrongResult
from exporters.finish import finish
from exporters.model_file import ModelFile, Value

WEIGHT = np.arange(24, dtype=np.float32).reshape(4, 6)


def model_of(batch: int | str = "batch", weight: np.ndarray = WEIGHT) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 6])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    graph = helper.make_graph(nodes, "one", [x], [y], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    provenance.write(model, {"parent_sha256": "abc"})
    return model


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    onnx.save(model_of(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def spread(tmp_path: Path) -> Path:
    """The same model with its weight in a file beside it."""
    folder = tmp_path / "spread"
    folder.mkdir()
    onnx.save(
        model_of(), folder / "m.onnx", save_as_external_data=True, all_tensors_to_one_file=True,
        location="m.data", size_threshold=0,
    )  # fmt: skip
    return folder / "m.onnx"


def test_everything_that_is_asked_of_a_file(alone: Path) -> None:
    file = ModelFile(alone)
    assert (file.path, str(file)) == (alone, str(alone))
    assert (file.opset, file.ir_version, file.precision, file.fixed_batch) == (20, 10, "fp32", None)
    assert file.inputs == (Value("x", "float32", ("batch", 4)),)
    assert file.outputs == (Value("y", "float32", ("batch", 6)),)
    assert file.facts == {"parent_sha256": "abc"}
    assert (file.external_files, file.size_bytes, file.sha256) == ((), alone.stat().st_size, sha256_of(alone))


def test_a_fixed_batch_is_known(tmp_path: Path) -> None:
    onnx.save(model_of(8), tmp_path / "m.onnx")
    assert ModelFile(tmp_path / "m.onnx").fixed_batch == 8


def test_weights_beside_the_file_count(spread: Path) -> None:
    data = spread.with_name("m.data")
    file = ModelFile(spread)
    assert file.external_files == (data,)
    assert file.size_bytes == spread.stat().st_size + data.stat().st_size
    assert file.size_bytes > WEIGHT.nbytes
    lines = f"{sha256_of(spread)}\n{sha256_of(data)} m.data"
    assert file.sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_another_weight_beside_the_file_is_another_model(spread: Path) -> None:
    before = ModelFile(spread).sha256
    data = spread.with_name("m.data")
    data.write_bytes(data.read_bytes()[::-1])
    assert ModelFile(spread).sha256 != before


def test_weights_are_read_when_they_are_wanted_and_nothing_is_read_twice(
    spread: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real_load, real_weights = onnx.load, external_data.read

    def load(path: Path, **options: object) -> onnx.ModelProto:
        read.append(path.name)
        return real_load(path, **options)  # type: ignore[arg-type]

    def weights(model: onnx.ModelProto, path: Path) -> None:
        read.append("weights")
        real_weights(model, path)

    monkeypatch.setattr(onnx, "load", load)
    monkeypatch.setattr(external_data, "read", weights)
    file = ModelFile(spread)
    assert all((file.size_bytes, file.sha256, file.inputs, file.precision))
    assert read == ["m.onnx"]
    assert np.array_equal(numpy_helper.to_array(file.proto.graph.initializer[0]), WEIGHT)
    assert len(file.external_files) == 1
    first, second = file.to_convert(), file.to_convert()
    assert read == ["m.onnx", "weights"]
    first.graph.node[0].name = "changed"
    assert second.graph.node[0].name == file.proto.graph.node[0].name == "product"


def test_weights_that_are_missing_are_named_when_they_are_wanted(spread: Path) -> None:
    spread.with_name("m.data").unlink()
    file = ModelFile(spread)
    assert file.opset == 20
    for fact in ("proto", "size_bytes", "sha256"):
        with pytest.raises(BadModelFile, match=r"beside it.*no 'm\.data'") as caught:
            getattr(file, fact)
        assert "external data" in caught.value.do


@pytest.mark.parametrize("place", ["../m.data", "/etc/hostname"])
def test_weights_outside_the_folder_are_not_looked_at(place: str, spread: Path) -> None:
    spread.with_name("m.data").rename(spread.parents[1] / "m.data")
    model = onnx.load(spread, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = place
    spread.write_bytes(model.SerializeToString())
    with pytest.raises(BadModelFile, match="beside it"):
        _ = ModelFile(spread).size_bytes


def test_what_is_released_keeps_its_facts_and_is_read_again_when_it_must_be(spread: Path) -> None:
    file, untouched = ModelFile(spread), ModelFile(spread)
    assert file.to_convert().graph.node
    file.release()
    moved = spread.rename(spread.with_name("moved.onnx"))
    for fact in ("inputs", "outputs", "opset", "ir_version", "precision", "fixed_batch", "facts", "external_files"):
        assert getattr(file, fact) == getattr(untouched, fact)
    moved.rename(spread)
    assert np.array_equal(numpy_helper.to_array(file.proto.graph.initializer[0]), WEIGHT)


def test_a_model_in_memory_is_the_file_that_it_is_written_to(alone: Path, tmp_path: Path) -> None:
    file = ModelFile.of(model_of(), tmp_path / "later.onnx")
    assert file.inputs == ModelFile(alone).inputs
    onnx_file.save(file.proto, file.path)
    assert file.sha256 == sha256_of(file.path)


def test_what_is_too_large_for_one_file_is_written_to_two_and_reads_back(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = np.arange(4 * 300, dtype=np.float32).reshape(4, 300)
    model = model_of(weight=weight)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 300
    monkeypatch.setattr(external_data, "MAX_BYTES", 1000)
    path = tmp_path / "large.onnx"
    onnx_file.save(model, path)
    file, data = ModelFile(path), tmp_path / "large.onnx.data"
    assert file.external_files == (data,)
    assert np.array_equal(numpy_helper.to_array(file.proto.graph.initializer[0]), weight)
    onnx.checker.check_model(path, full_check=True)
    src = ModelFile(path)
    made = finish(src.to_convert(), tmp_path / "made.onnx", src=src, precision="fp32", facts={})
    assert made.size_bytes == sum((tmp_path / name).stat().st_size for name in ("made.onnx", "made.onnx.data"))
    assert made.sha256 == ModelFile(tmp_path / "made.onnx").sha256


def test_a_large_model_takes_its_place_with_its_weights_or_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external_data, "MAX_BYTES", 1000)
    model = model_of(weight=np.ones((4, 300), np.float32))
    folder, final = tmp_path / "out", tmp_path / "out" / "m.onnx"
    folder.mkdir()
    with pytest.raises(ZeroDivisionError), onnx_file.staged_model(final) as candidate:
        onnx_file.save(model, candidate)
        assert ModelFile(candidate).external_files
        _ = 1 / 0
    assert not list(folder.iterdir())
    with onnx_file.staged_model(final) as candidate:
        onnx_file.save(model, candidate)
    assert sorted(path.name for path in folder.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert ModelFile(final).to_convert().graph.initializer[0].dims == [4, 300]


def test_the_tail_of_every_converter_checks_the_interface_and_writes_the_parent(alone: Path, tmp_path: Path) -> None:
    src, dst = ModelFile(alone), tmp_path / "made.onnx"
    made = finish(src.to_convert(), dst, src=src, precision="fp16", facts={"said": "yes", "empty": ""}, notes=("n",))
    assert (made.path, made.precision, made.opset, made.notes) == (dst, "fp16", 20, ("n",))
    assert (made.sha256, made.size_bytes, made.parent_sha256) == (sha256_of(dst), dst.stat().st_size, src.sha256)
    facts = ModelFile(dst).facts
    assert (facts["said"], facts["precision"], facts["parent_sha256"]) == ("yes", "fp16", src.sha256)
    assert "empty" not in facts
    other = src.to_convert()
    other.graph.output[0].name = other.graph.node[0].output[0] = "z"
    with pytest.raises(WrongResult, match="other inputs or outputs"):
        finish(other, tmp_path / "none.onnx", src=src, precision="fp16", facts={})
    assert not (tmp_path / "none.onnx").exists()


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (onnx.NodeProto(), "no operator or no output"),
        (helper.make_node("Relu", ["x"], [""]), "no operator or no output"),
        (helper.make_node("Relu", ["x"], ["y"]), "two nodes make the tensor 'y'"),
    ],
)
def test_nodes_that_make_nothing_or_what_another_makes_are_named(
    node: onnx.NodeProto, why: str, alone: Path, tmp_path: Path
) -> None:
    model = onnx.load(alone)
    made = next(name for each in model.graph.node for name in each.output)
    for index, name in enumerate(node.output):
        node.output[index] = made if name else name
    model.graph.node.append(node)
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(BadModelFile, match=why.replace("'y'", f"'{made}'")):
        ModelFile(tmp_path / "odd.onnx")

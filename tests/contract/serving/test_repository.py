"""The repositories of engines: what lies where, and what Triton's own definition reads in config.pbtxt."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from tests.contract.serving.foreign import tritonclient
from tests.contract.serving.test_tritonclient import write_copies
from tests.contract.shipping.conftest import write_net, write_two
from toolchain.errors import BadUsage
from toolchain.progress import Progress
from toolchain.serving import repository
from toolchain.shipping import checksums, contents, golden_values, packing
from toolchain.shipping.packing import Title

Pack = Callable[..., Path]
CONFIG = """\
name: "net"
backend: "onnxruntime"
max_batch_size: 4
input {
  name: "x"
  data_type: TYPE_FP32
  dims: [ 4 ]
}
output {
  name: "scores"
  data_type: TYPE_FP32
  dims: [ 3 ]
}
dynamic_batching { }
instance_group { count: 1 kind: KIND_CPU }
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
model_warmup {
  name: "golden 0"
  batch_size: 1
  inputs {
    key: "x"
    value {
      data_type: TYPE_FP32
      dims: [ 4 ]
      input_data_file: "golden-0-0"
    }
  }
}
model_warmup {
  name: "golden 0, 4 times"
  batch_size: 4
  inputs {
    key: "x"
    value {
      data_type: TYPE_FP32
      dims: [ 4 ]
      input_data_file: "golden-0-0"
    }
  }
}
"""
SCALED = """
<ir_version: 9, opset_import: ["": 18]>
net (float[2, 3] x, float[1] by) => (float[2, 3] y) { y = Mul(x, by) }
"""
"""Without a batch."""
NUMBERS = """
<ir_version: 9, opset_import: ["": 18]>
net (float[N] x, float[N, 2] z) => (float[N] y, float[N, 2] w) {
    y = Neg(x)
    w = Neg(z)
}
"""
"""A number a sample."""


class Heard(Progress):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    def make(*models: Path, version: str = "1.0.0") -> Path:
        title = Title(name="net", version=version)
        return packing.pack(contents.of_models(models), tmp_path / "net.ortpackage", title).path

    return make


def as_protobuf(config: Path) -> dict[str, Any]:
    return dict(tritonclient("config", config))


def test_a_repository_of_triton(tmp_path: Path, pack: Pack) -> None:
    package = pack(write_net(tmp_path / "net.onnx", external=True))
    made = repository.write(package, "triton", tmp_path / "out", most_rows=4)
    assert made.files == (
        "net/1/model.onnx",
        "net/1/weights.bin",
        "net/config.pbtxt",
        "net/warmup/golden-0-0",
        "nnx.json",
    )
    assert (tmp_path / "out/net/config.pbtxt").read_text() == CONFIG
    first = golden_values.read(package, "fp32").calls[0]["x"]
    assert (tmp_path / "out/net/warmup/golden-0-0").read_bytes() == first.tobytes()
    receipt = json.loads((tmp_path / "out/nnx.json").read_text())
    assert (receipt["engine"], receipt["variant"], receipt["package_version"]) == ("triton", "fp32", "1.0.0")
    onnx.checker.check_model(tmp_path / "out/net/1/model.onnx")


def test_triton_s_own_definition_reads_it(tmp_path: Path, pack: Pack) -> None:
    repository.write(pack(write_net(tmp_path / "net.onnx")), "triton", tmp_path / "out", most_rows=4)
    told = as_protobuf(tmp_path / "out/net/config.pbtxt")
    assert (told["backend"], told["max_batch_size"], told["dynamic_batching"]) == ("onnxruntime", 4, {})
    assert told["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": ["4"]}]
    assert [warmup["batch_size"] for warmup in told["model_warmup"]] == [1, 4]


def test_every_type_is_one_of_triton_s(tmp_path: Path, pack: Pack) -> None:
    repository.write(pack(write_copies(tmp_path / "net.onnx")), "triton", tmp_path / "out")
    told = as_protobuf(tmp_path / "out/net/config.pbtxt")
    kinds = {each["name"]: each["data_type"] for each in told["input"]}
    assert len(kinds) == 12
    assert (kinds["float16"], kinds["bool"], kinds["uint64"]) == ("TYPE_FP16", "TYPE_BOOL", "TYPE_UINT64")
    assert {name: value["data_type"] for name, value in told["model_warmup"][0]["inputs"].items()} == kinds


def test_a_model_without_a_batch_has_its_whole_shape(tmp_path: Path, pack: Pack) -> None:
    onnx.save(parser.parse_model(SCALED), tmp_path / "net.onnx")
    heard = Heard()
    repository.write(pack(tmp_path / "net.onnx"), "triton", tmp_path / "out", progress=heard)
    assert "Each request runs alone" in heard.warnings[0]
    told = as_protobuf(tmp_path / "out/net/config.pbtxt")
    assert "max_batch_size" not in told  # 0, protobuf's default
    assert "dynamic_batching" not in told
    assert told["input"][0]["dims"] == ["2", "3"]
    (warmup,) = told["model_warmup"]
    assert warmup["batch_size"] == 1  # with 0 Triton makes no request
    assert (warmup["inputs"]["x"]["dims"], warmup["inputs"]["by"]["dims"]) == (["2", "3"], ["1"])


def test_where_a_sample_is_a_number_triton_makes_no_batches(tmp_path: Path, pack: Pack) -> None:
    """It would want [N, 1] of clients where the model takes [N]."""
    onnx.save(parser.parse_model(NUMBERS), tmp_path / "net.onnx")
    heard = Heard()
    repository.write(pack(tmp_path / "net.onnx"), "triton", tmp_path / "out", progress=heard)
    assert "a sample of 'x' is a number" in heard.warnings[-1]
    told = as_protobuf(tmp_path / "out/net/config.pbtxt")
    assert "max_batch_size" not in told
    assert [each["dims"] for each in told["input"]] == [["-1"], ["-1", "2"]]


def test_a_single_value_is_not_for_triton(tmp_path: Path, pack: Pack) -> None:
    onnx.save(parser.parse_model(SCALED.replace("float[1] by", "float by")), tmp_path / "net.onnx")
    package = pack(tmp_path / "net.onnx")
    with pytest.raises(BadUsage, match="Triton serves no single values: 'by' has no axes"):
        repository.write(package, "triton", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_settings_of_the_session_go_along_as_far_as_triton_knows_them(tmp_path: Path, pack: Pack) -> None:
    heard = Heard()
    package = pack(*write_two(tmp_path))
    repository.write(package, "triton", tmp_path / "out", variant="second", progress=heard)
    told = as_protobuf(tmp_path / "out/net/config.pbtxt")
    assert told["optimization"] == {"graph": {"level": -1}}
    assert {key: value["string_value"] for key, value in told["parameters"].items()} == {
        "intra_op_thread_count": "1", "inter_op_thread_count": "1", "execution_mode": "1", "enable_mem_pattern": "0",
    }  # fmt: skip
    unknown = ["optimization.disable_specified_optimizers", "session.inter_op.allow_spinning"]
    assert all(any(name in warning for warning in heard.warnings) for name in unknown)
    assert {path.name for path in (tmp_path / "out/net/1").iterdir()} == {"model.onnx", "weights.bin"}


def test_what_a_stranger_s_package_says_is_taken_where_it_makes_sense(tmp_path: Path, pack: Pack) -> None:
    package = pack(write_net(tmp_path / "net.onnx"))
    told = json.loads((package / "nnx/package.json").read_text())
    told["variants"][0]["session_options"] = {
        "session.execution_mode": "sideways",
        "session.graph_optimization_level": "x",
    }
    told["labels"] = "nnx/labels.json"
    (package / "nnx/package.json").write_text(json.dumps(told))
    for labels in ({"a": 1}, [1, 2, 3], ["a", "b\nc", "d"], ["a", "b"]):
        (package / "nnx/labels.json").write_text(json.dumps(labels))
        checksums.write(package)
        heard = Heard()
        repository.write(package, "triton", tmp_path / "out", most_rows=4, progress=heard)
        assert (tmp_path / "out/net/config.pbtxt").read_text() == CONFIG
        assert len(heard.warnings) == 2
    (package / "nnx/labels.json").write_text('["a", "b", "\\u00e9"]')
    checksums.write(package)
    repository.write(package, "triton", tmp_path / "out", most_rows=4)
    assert (tmp_path / "out/net/labels.txt").read_text(encoding="utf-8") == "a\nb\né\n"
    assert 'label_filename: "labels.txt"' in (tmp_path / "out/net/config.pbtxt").read_text()


def test_a_repository_of_openvino_s_server(tmp_path: Path, pack: Pack) -> None:
    heard = Heard()
    package = pack(write_net(tmp_path / "net.onnx"), version="3.1")
    made = repository.write(package, "ovms", tmp_path / "out", progress=heard)
    assert made.files == ("config.json", "net/3/model.onnx", "nnx.json")
    (entry,) = json.loads((tmp_path / "out/config.json").read_text())["model_config_list"]
    assert (tmp_path / "out" / entry["config"]["base_path"] / "3" / "model.onnx").is_file()
    assert entry["config"]["name"] == "net"
    assert "OpenVINO computes otherwise" in heard.warnings[-1]


def test_a_repository_of_kserve_is_triton_s_with_a_service(tmp_path: Path, pack: Pack) -> None:
    yaml = pytest.importorskip("yaml")
    repository.write(pack(write_net(tmp_path / "net.onnx")), "kserve", tmp_path / "out", most_rows=4)
    assert (tmp_path / "out/models/net/config.pbtxt").read_text() == CONFIG
    service = yaml.safe_load((tmp_path / "out/inferenceservice.yaml").read_text())
    assert (service["kind"], service["metadata"]["name"]) == ("InferenceService", "net")
    model = service["spec"]["predictor"]["model"]
    assert (model["runtime"], model["protocolVersion"]) == ("kserve-tritonserver", "v2")


def test_a_repository_is_replaced_and_nothing_else_is(tmp_path: Path, pack: Pack) -> None:
    package = pack(write_net(tmp_path / "net.onnx"))
    for _ in range(2):
        repository.write(package, "ovms", tmp_path / "out")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "nnx.json").write_text("[]")
    with pytest.raises(BadUsage, match="is no repository of nnx"):
        repository.write(package, "ovms", theirs)
    with pytest.raises(BadUsage, match="is no repository of nnx"):
        repository.write(package, "ovms", package)


def test_an_engine_is_named_alone() -> None:
    assert repository.engine_among(()) is None
    assert repository.engine_among(("web", "node")) is None
    assert repository.engine_among(("triton", "triton")) == "triton"
    with pytest.raises(BadUsage, match="reads a repository of its own"):
        repository.engine_among(("web", "triton"))


@pytest.mark.parametrize("name", ["plain", 'a"b\\c', "é\n\x01", "'", "\U0001f600"])
def test_names_come_through_protobuf_s_quotes(tmp_path: Path, pack: Pack, name: str) -> None:
    model = onnx.load(write_net(tmp_path / "net.onnx"))
    model.graph.input[0].name = model.graph.node[0].input[0] = name
    onnx.save(model, tmp_path / "net.onnx")
    repository.write(pack(tmp_path / "net.onnx"), "triton", tmp_path / "out")
    told = as_protobuf(tmp_path / "out/net/config.pbtxt")
    assert told["input"][0]["name"] == name
    assert list(told["model_warmup"][0]["inputs"]) == [name]


def test_the_command(tmp_path: Path, pack: Pack, nnx: Callable[..., tuple[int, str, str]]) -> None:
    package = pack(write_net(tmp_path / "net.onnx"))
    code, out, _ = nnx("pack", package, "--target", "ovms", "-o", tmp_path / "a")
    assert (code, out.splitlines()[0]) == (0, f"{tmp_path / 'a'}: net, version 1, fp32, batches up to 8, for ovms")
    code, out, _ = nnx("pack", tmp_path / "net.onnx", "--target", "triton", "-o", tmp_path / "b", "--json")
    assert (code, json.loads(out)["most_rows"]) == (0, 8)
    for wrong in (
        ["--target", "triton", "--target", "web"], ["--target", "triton", "--ort"], ["--variant", "fp32"],
        ["--target", "triton", "--licence", "MIT"],
    ):  # fmt: skip
        assert nnx("pack", package, *wrong, "-o", tmp_path / "c.ortpackage")[0] == 2
    assert not np.any([path.name.startswith("c") for path in tmp_path.iterdir()])

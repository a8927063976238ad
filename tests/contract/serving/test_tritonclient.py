"""NVIDIA's own client asks `nnx serve`, for values of every type, and gets what the package says."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from runtimes.base import FEEDABLE
from tests.contract.serving.foreign import tritonclient
from tests.contract.shipping.conftest import write_net
from tests.served import Serve, servers
from toolchain.shipping import contents, packing
from toolchain.shipping.packing import Title


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    with servers() as start:
        yield start


def pack(folder: Path, model: Path) -> Path:
    return packing.pack(contents.of_models([model]), folder / "net.ortpackage", Title(name="net")).path


def write_copies(path: Path) -> Path:
    """A model that gives back each of its inputs, one of every type."""
    names = sorted(FEEDABLE)
    kinds = {name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in names}
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in names],
        "copies",
        [helper.make_tensor_value_info(name, kinds[name], ["N", 2]) for name in names],
        [helper.make_tensor_value_info(f"{name}_out", kinds[name], ["N", 2]) for name in names],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def test_every_type_in_json_and_in_bytes(tmp_path: Path, serve: Serve) -> None:
    package = pack(tmp_path, write_copies(tmp_path / "net.onnx"))
    server = serve(package, "--max-batch", 8)
    said = tritonclient("infer", f"127.0.0.1:{server.port}", package, "--exact")
    assert said["extensions"] == ["binary_tensor_data"]
    assert said["largest"] == 0
    assert said["answers"] > 400
    assert said["refused"] == [
        "There is no model 'other' here, only 'net'.",
        "There is no such version of 'net' here, only 1.0.0.",
        "The request lacks the input 'uint8'.",
        f"Output 'other' is none of the model's: {', '.join(f'{name}_out' for name in sorted(FEEDABLE))}.",
        "The parameter 'priority' of the request is not known here.",
    ]
    assert server.stop()[0] == 0


def test_alone_each_answer_has_the_bits_of_the_golden_one(tmp_path: Path, serve: Serve) -> None:
    package = pack(tmp_path, write_net(tmp_path / "net.onnx"))
    server = serve(package, "--max-batch", 1)
    assert tritonclient("infer", f"127.0.0.1:{server.port}", package, "--exact")["largest"] == 0


def test_in_batches_it_is_within_the_tolerance(tmp_path: Path, serve: Serve) -> None:
    package = pack(tmp_path, write_net(tmp_path / "net.onnx"))
    server = serve(package, "--max-batch", 8, "--max-delay", "5ms")
    assert tritonclient("infer", f"127.0.0.1:{server.port}", package)["largest"] < 1e-5

"""A small valid package to break: two variants of a product, one with its weights beside it, one with shared ones."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from toolchain.shipping import checksums
from toolchain.shipping.package import CHECKSUMS, FORMAT, GOLDEN, PACKAGE, SIGNATURE, Package, Tensor, Variant

_NOT_LISTED = (CHECKSUMS, SIGNATURE)


def write(folder: Path) -> Path:
    """The package in ``folder``, which is made."""
    weight = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    data = weight.tobytes()
    digest = hashlib.sha256(data).hexdigest()
    for name, place in (("fp32", "small/fp32"), ("shared", "small/shared")):
        where = folder / place
        where.mkdir(parents=True)
        (where / "model.onnx").write_bytes(_model(weight, f"{name}.data").SerializeToString())
    (folder / "small/fp32/fp32.data").write_bytes(data)
    assets = f"shared_assets/sha256-{digest}"
    (folder / assets).mkdir(parents=True)
    (folder / assets / "shared.data").write_bytes(data)
    documents: dict[str, Any] = {
        "manifest.json": {
            "schema_version": "1.0", "package_name": "small", "package_version": "1", "layout": "portable",
            "components": {"small": "small"}, "shared_assets": {f"sha256:{digest}": assets},
            "additional_metadata": {"nnx": {"format": 1, "files": "nnx/package.json"}},
        },
        "small/component.json": {
            "component_name": "small", "variants": {
                "fp32": _variant(), "shared": _variant(external_data=f"sha256:{digest}"),
            },
        },
        PACKAGE: asdict(_package([_described("fp32", "small/fp32", None), _described("shared", assets, assets)])),
        "nnx/golden.json": {"format": 1, "cases": [{"inputs": [1.5], "outputs": {}}], "tolerances": {}},
    }  # fmt: skip
    for name, document in documents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(document, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "README.md").write_text("# small\n", encoding="utf-8")
    (folder / "runners/python").mkdir(parents=True)
    (folder / "runners/python/run.py").write_text("print('run')\n", encoding="utf-8")
    write_checksums(folder)
    return folder


def write_checksums(folder: Path) -> None:
    """SHA256SUMS anew, as somebody would who has changed a file."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    digests = {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items() if name not in _NOT_LISTED
    }
    (folder / CHECKSUMS).unlink(missing_ok=True)  # a link or a pipe by now, perhaps
    (folder / CHECKSUMS).write_text(checksums.text(digests), encoding="utf-8", errors="surrogateescape")


def _variant(**more: str) -> dict[str, Any]:
    return {
        "ep": "CPUExecutionProvider",
        "device": "cpu",
        "executor_info": {"ort": {"model_file": "model.onnx", **more}},
    }


def _package(variants: list[Variant]) -> Package:
    return Package(
        format=FORMAT, name="small", version="1", task=None, variants=tuple(variants), onnxruntime="1.18",
        inputs=(Tensor(name="x", dtype="float32", shape=("batch", 16)),),
        outputs=(Tensor(name="y", dtype="float32", shape=("batch", 16)),),
        golden=GOLDEN, preprocessing=None, labels=None, rows=None, licence=None, provenance={}, runners=("python",),
        required_operators=None,
    )  # fmt: skip


def _described(name: str, weights: str, shared: str | None) -> Variant:
    return Variant(
        name=name, model=f"small/{name}/model.onnx", sha256="0" * 64, size_bytes=1, opset=20, ir_version=10,
        precision="fp32", onnxruntime="1.18", external_data={f"{name}.data": f"{weights}/{name}.data"},
        shared_weights=shared, session_options={}, row=None, peak_memory_bytes=None, accuracy=None, provenance={},
        ort_file=None,
    )  # fmt: skip


def _model(weight: Any, location: str) -> onnx.ModelProto:
    """``y = x @ w``, with ``w`` in a file of its own."""
    tensor = numpy_helper.from_array(weight, "w")
    onnx.external_data_helper.set_external_data(tensor, location=location, offset=0, length=weight.nbytes)
    tensor.ClearField("raw_data")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 16])],
        [tensor],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

"""What other releases take, as their wheels told; the installed one's own row is what it says of itself."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.model_file import ModelFile
from toolchain.conversion.target import Target
from toolchain.errors import BadUsage, CheckFailed
from toolchain.inspection import releases, targets
from toolchain.inspection.check import check


def model(*nodes: onnx.NodeProto, opset: int = 13, ir_version: int = 8) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    weight = numpy_helper.from_array(np.ones(4, np.float32), "w")
    graph = helper.make_graph(list(nodes), "g", values[:1], values[1:], [weight])
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


RELU = helper.make_node("Relu", ["x"], ["y"])
GELU = helper.make_node("Gelu", ["x"], ["y"])
NORM = helper.make_node("RMSNormalization", ["x", "w"], ["y"])


@pytest.mark.parametrize(
    ("made", "release", "lacks"),
    [
        (model(RELU), "1.16", ""),
        (model(RELU, opset=21, ir_version=10), "1.17", "IR version 10"),
        (model(RELU, opset=21), "1.17", "opset 21"),
        (model(RELU, opset=21, ir_version=10), "1.18", ""),
        (model(GELU, opset=20), "1.17", ""),  # a function of others
        (model(helper.make_node("FusedMatMul", ["x", "w"], ["y"], domain="com.microsoft")), "1.16", ""),
        (model(helper.make_node("Nothing", ["x"], ["y"], domain="com.microsoft")), "1.20", "knows no operator Nothing"),
        (model(helper.make_node("GroupNorm", ["x"], ["y"], domain="com.microsoft")), "1.20", "knows no operator"),
        (model(NORM, opset=23), "1.22", "opset 23"),
    ],
)
def test_what_a_release_lacks(made: onnx.ModelProto, release: str, lacks: str) -> None:
    found = next(targets.lacking(made, releases.release(release)), "")
    assert lacks in found
    assert bool(lacks) == bool(found)


def test_the_installed_release_is_in_the_table_and_agrees_with_it() -> None:
    name = ".".join(onnxruntime.__version__.split(".")[:2])
    known = releases.release(name)
    asked = {(domain, operator) for domain, operator in releases._kernels(name)}
    for domain, operator in sorted(asked):
        for first, _, types in releases._kernels(name)[domain, operator]:
            there = releases.INSTALLED.kernels(domain, operator, first)
            assert any({n: set(k) for n, k in each.items()} == {n: set(k) for n, k in types.items()} for each in there)
    assert known.label == f"ONNX Runtime {name}"


def test_a_patch_release_is_its_minor_one_and_others_are_refused() -> None:
    assert releases.release("1.17.3") == releases.release("1.17")
    for name in ("1.2", "2.0", "", "latest", "1"):
        with pytest.raises(BadUsage, match="Nothing is known"):
            releases.release(name)


def test_the_versions_that_are_written_for_a_release() -> None:
    assert (
        Target.of("1.17", opset=None, ir_version=None).opset,
        Target.of("1.17", opset=None, ir_version=None).ir_version,
    ) == (20, 9)
    assert Target.of("1.16", opset=None, ir_version=None).opset == 19
    assert Target.of("1.16", opset=18, ir_version=8) == Target(opset=18, ir_version=8, release=releases.release("1.16"))
    for opset, ir_version in ((21, None), (None, 10)):
        with pytest.raises(BadUsage, match=r"1\.17 takes no"):
            Target.of("1.17", opset=opset, ir_version=ir_version)


def test_a_file_that_a_release_could_not_run_is_refused() -> None:
    with pytest.raises(CheckFailed, match="could not run the file: opset 21"):
        Target.of("1.17", opset=None, ir_version=None).require(model(RELU, opset=21))
    Target.of("1.17", opset=None, ir_version=None).require(model(RELU))


def test_check_and_inspect_ask_it(tmp_path: Path) -> None:
    onnx.save(model(RELU, opset=21, ir_version=10), tmp_path / "m.onnx")
    assert check(tmp_path / "m.onnx").sound
    faults = check(tmp_path / "m.onnx", releases.release("1.17")).faults
    assert [each.kind for each in faults if each.severity == "fault"] == ["version", "version"]
    assert any("nnx convert --opset 20" in each.do for each in faults)
    rows = targets.targets_of(
        ModelFile(tmp_path / "m.onnx"), releases=[releases.release("1.17"), releases.release("1.20")]
    )
    assert [(row.name, row.runs) for row in rows[-2:]] == [
        ("ONNX Runtime 1.17, CPU", False),
        ("ONNX Runtime 1.20, CPU", True),
    ]

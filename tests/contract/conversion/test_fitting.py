"""What a conversion says when nothing is left of it, or nothing but a larger file."""

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from exporters import onnx_file
from exporters.artifact import Artifact
from exporters.errors import NotApplicable, WrongResult
from exporters.model_file import ModelFile
from toolchain.accuracy import running
from toolchain.accuracy.gate import Requirement
from toolchain.conversion.fitting import fit
from toolchain.conversion.goal import Goal
from toolchain.conversion.precisions import Methods, Ready
from toolchain.conversion.proof import Proven
from toolchain.errors import CheckFailed
from toolchain.inputs.samples import Samples
from toolchain.progress import SILENT

NODES = ("first", "second")
Change = Callable[[onnx.ModelProto, Collection[str]], None]


@pytest.fixture
def src(tmp_path: Path) -> ModelFile:
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 20]>
        two (float[n, 4] x) => (float[n, 4] y) {
            [first] h = MatMul (x, v)
            [second] y = MatMul (h, w)
        }"""
    )
    random = np.random.default_rng(0)
    model.graph.initializer.extend(
        numpy_helper.from_array(random.normal(size=(4, 4)).astype(np.float32), name) for name in "vw"
    )
    onnx_file.save(model, tmp_path / "m.onnx")
    return ModelFile(tmp_path / "m.onnx")


def broken(model: onnx.ModelProto, exclude: Collection[str]) -> None:
    """Every node that is not excluded loses its weight, which is stored as int8."""
    for name, tensor in zip(NODES, "vw", strict=True):
        if name not in exclude:
            weight = next(each for each in model.graph.initializer if each.name == tensor)
            weight.CopyFrom(numpy_helper.from_array(np.ones((4, 4), np.float32), tensor))
            model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.int8), f"{name}_int8"))


def fitted(src: ModelFile, change: Change, *, real: bool = True, **goal: object) -> Proven:
    def make(path: Path, exclude: Collection[str], methods: Methods) -> Artifact:
        model = onnx.ModelProto()
        model.CopyFrom(src.proto)
        change(model, exclude)
        onnx_file.save(model, path)
        return Artifact.of(ModelFile(path), precision="int8-static", notes=("no product has a constant weight",))

    samples = Samples(inputs={"x": np.random.default_rng(1).normal(size=(32, 4)).astype(np.float32)}, labels=None,
                      source="test", real=real)  # fmt: skip
    return fit(
        src, src.path.with_name("made.onnx"), "int8-static", Ready(make=make, reference=src.normal),
        judged_on=samples, goal=Goal(**goal), progress=SILENT,  # type: ignore[arg-type]
    )  # fmt: skip


def test_an_unchanged_file_is_no_result(src: ModelFile) -> None:
    with pytest.raises(NotApplicable, match=r"Nothing in .* was converted to int8-static: no product has") as caught:
        fitted(src, lambda model, exclude: None)
    assert caught.value.do
    assert not src.path.with_name("made.onnx").exists()


def test_what_a_converter_has_nothing_for_does_not_suit_the_model(src: ModelFile) -> None:
    def nothing(model: onnx.ModelProto, exclude: Collection[str]) -> None:
        raise NotApplicable("It has no MatMul.", "Ship it.")

    with pytest.raises(NotApplicable, match="no MatMul"):
        fitted(src, nothing)


def test_a_search_that_puts_all_back_speaks_of_a_requirement_only_where_there_is_one(src: ModelFile) -> None:
    with pytest.raises(CheckFailed, match="Only the original meets the requirement"):
        fitted(src, broken, budget_s=20.0, requirement=Requirement(min_sqnr_db=30.0))
    with pytest.raises(CheckFailed, match="only when every node stays in float") as caught:
        fitted(src, broken, budget_s=20.0)
    assert "requirement" not in caught.value.what + caught.value.do
    assert "output 'y'" in caught.value.what
    assert any(f"The most damaging is {node}." in caught.value.what for node in NODES)
    assert "real samples" not in caught.value.do  # which these are
    assert not src.path.with_name("made.onnx").exists()


@pytest.mark.parametrize("budget_s", [0.0, 20.0])
def test_what_fails_on_made_up_values_asks_for_real_ones(src: ModelFile, budget_s: float) -> None:
    with pytest.raises(CheckFailed, match="On made-up values the int8-static model") as caught:
        fitted(src, broken, real=False, budget_s=budget_s)
    assert "--eval" in caught.value.do


def test_a_set_of_which_no_right_file_can_be_made_fails_and_the_search_goes_on(src: ModelFile) -> None:
    def half(model: onnx.ModelProto, exclude: Collection[str]) -> None:
        if list(exclude) == ["second"]:
            raise WrongResult("It is not valid ONNX.", "Report it.")
        model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.int8), "int8"))
        if not exclude:
            model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones((4, 4), np.float32), "w"))

    made = fitted(src, half, budget_s=20.0)
    assert made.plan is not None
    assert made.plan.exclude != ("second",)


def test_a_search_without_a_requirement_makes_each_version_once_and_what_it_found_again(src: ModelFile) -> None:
    made_of = []

    def half(model: onnx.ModelProto, exclude: Collection[str]) -> None:
        made_of.append(tuple(sorted(exclude)))
        broken(model, [*exclude, "first"])
        model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.int8), "int8"))

    made = fitted(src, half, budget_s=20.0)
    assert made.plan is not None
    assert made.plan.exclude == ("second",)
    tried, last = made_of[:-1], made_of[-1]
    assert last == made.plan.exclude
    assert len(set(tried)) == len(tried) == made.plan.evaluations  # that with nothing in float, known before, is one


def test_a_larger_file_says_so(src: ModelFile) -> None:
    def padded(size: int) -> Change:
        return lambda model, exclude: model.graph.initializer.append(
            onnx.helper.make_tensor("int8", TensorProto.INT8, [size], np.ones(size, np.int8))
        )

    made = fitted(src, padded(5000))
    assert made.grown.startswith(f"It is LARGER than the original: {src.size_bytes:,} -> ")
    smaller = Proven(artifact=made.artifact, parity=made.parity, proven_on="test", source_bytes=1 << 20)
    assert smaller.grown == ""
    exported = Proven(artifact=made.artifact, parity=made.parity, proven_on="test")
    assert exported.grown == ""


@pytest.mark.parametrize("shown", [True, False])
def test_a_model_that_draws_random_numbers_is_named_where_they_show(tmp_path: Path, shown: bool) -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        noisy (float[n, 4] x) => (float[n, 4] y) {{
            [noise] e = RandomNormalLike (x)
            [sum] y = Add ({"x, e" if shown else "x, x"})
        }}"""
    )
    onnx.save(model, tmp_path / "m.onnx")
    file = ModelFile(tmp_path / "m.onnx")
    found = running.random_node(file, {"x": np.ones((4, 4), np.float32)}, file.batch_axes)
    assert found == ("noise" if shown else None)

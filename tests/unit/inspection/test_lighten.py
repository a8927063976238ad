"""A model without its weights, and back: what stays, what goes, and what the seeded ones are like."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.model_file import ModelFile
from exporters.tensors import all_tensors
from runtimes.base import run
from runtimes.ort import OrtRuntime
from tests.unit.inspection import tiny_graphs
from tests.unit.inspection.tiny_graphs import convolutional, drawn, quantized
from toolchain.errors import BadUsage
from toolchain.inspection.check import check
from toolchain.inspection.describe import describe
from toolchain.inspection.lighten import fill, is_lightened, lighten


def there_and_back(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    onnx.save(model, folder / "m.onnx")
    lighten(ModelFile(folder / "m.onnx"), folder / "light.onnx")
    fill(ModelFile(folder / "light.onnx"), folder / "filled.onnx")
    return onnx.load(folder / "filled.onnx")


def test_names_types_and_shapes_stay_and_values_do_not(tmp_path: Path) -> None:
    model = convolutional()
    filled = there_and_back(model, tmp_path)
    assert (tmp_path / "light.onnx").stat().st_size < 0.6 * (tmp_path / "m.onnx").stat().st_size
    assert [str(node) for node in filled.graph.node] == [str(node) for node in model.graph.node]
    for old, new in zip(model.graph.initializer, filled.graph.initializer, strict=True):
        assert (old.name, old.data_type, list(old.dims)) == (new.name, new.data_type, list(new.dims))
        before, after = numpy_helper.to_array(old), numpy_helper.to_array(new)
        assert not np.array_equal(before, after)
        assert before.min() <= after.min() and after.max() <= before.max()
        assert abs(after.std() - before.std()) < 0.5 * before.std() + 1e-6


def test_the_light_file_holds_no_bytes_of_the_weights(tmp_path: Path) -> None:
    model = convolutional()
    onnx.save(model, tmp_path / "m.onnx")
    made = lighten(ModelFile(tmp_path / "m.onnx"), tmp_path / "light.onnx")
    content = (tmp_path / "light.onnx").read_bytes()
    assert all(tensor.raw_data[:32] not in content for tensor in model.graph.initializer)
    assert (made.weights, made.kept) == (5, 0)
    assert is_lightened(ModelFile(tmp_path / "light.onnx").graph)


def test_a_filled_file_runs_and_the_seed_decides_it(tmp_path: Path) -> None:
    there_and_back(convolutional(), tmp_path)
    assert check(tmp_path / "filled.onnx").faults == ()
    fill(ModelFile(tmp_path / "light.onnx"), tmp_path / "again.onnx")
    fill(ModelFile(tmp_path / "light.onnx"), tmp_path / "other.onnx", seed=1)
    found = []
    for name in ("filled", "again", "other"):
        with OrtRuntime(tmp_path / f"{name}.onnx") as runtime:
            found.append(run(runtime, {"x": drawn(2, 3, 8, 8)})["y"])
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert np.isfinite(found[0]).all()


def test_shapes_axes_and_zero_points_are_kept(tmp_path: Path) -> None:
    node = helper.make_node("Reshape", ["x", "to"], ["y"])
    onnx.save(
        tiny_graphs.model([node], {"x": [6, 8]}, {"y": None}, {"to": np.array([2, 3, 2, 2, 2])}), tmp_path / "m.onnx"
    )
    made = lighten(ModelFile(tmp_path / "m.onnx"), tmp_path / "light.onnx")
    assert (made.weights, made.kept) == (0, 1)
    filled = there_and_back(quantized(convolutional()), tmp_path)
    constants = {tensor.name: tensor for tensor in filled.graph.initializer}
    assert numpy_helper.to_array(constants["x_zero"]) == 128
    with OrtRuntime(tmp_path / "filled.onnx") as runtime:
        assert np.isfinite(run(runtime, {"x": drawn(2, 3, 8, 8)})["y"]).all()


def test_a_mask_is_made_of_the_values_that_it_had(tmp_path: Path) -> None:
    mask = np.where(np.tri(32, dtype=bool), 0, -np.inf).astype(np.float32)
    nodes = [helper.make_node("Add", ["x", "mask"], ["y"])]
    filled = there_and_back(tiny_graphs.model(nodes, {"x": [32, 32]}, {"y": [32, 32]}, {"mask": mask}), tmp_path)
    assert set(np.unique(numpy_helper.to_array(filled.graph.initializer[0]))) == {0, -np.inf}


def test_indices_stay_within_their_table(tmp_path: Path) -> None:
    where = np.random.default_rng(0).integers(0, 50, (40, 40))
    nodes = [helper.make_node("Gather", ["table", "where"], ["g"]), helper.make_node("Add", ["g", "x"], ["y"])]
    model = tiny_graphs.model(nodes, {"x": [1]}, {"y": None}, {"table": drawn(50, 4), "where": where})
    there_and_back(model, tmp_path)
    with OrtRuntime(tmp_path / "filled.onnx") as runtime:
        assert run(runtime, {"x": np.zeros(1, np.float32)})["y"].shape == (40, 40, 4)


def test_weights_in_branches_and_constants_go_too(tmp_path: Path) -> None:
    def branch(name: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 9])
        held = helper.make_node("Constant", [], [f"{name} w"], value=numpy_helper.from_array(drawn(4, 9)))
        return helper.make_graph([held, helper.make_node("MatMul", ["x", f"{name} w"], [name])], name, [], [value])

    node = helper.make_node("If", ["which"], ["y"], then_branch=branch("t"), else_branch=branch("e"))
    model = tiny_graphs.model([node], {"x": [2, 4]}, {"y": [2, 9]}, {"which": np.array(True)})
    onnx.save(model, tmp_path / "m.onnx")
    assert lighten(ModelFile(tmp_path / "m.onnx"), tmp_path / "light.onnx").weights == 2
    fill(ModelFile(tmp_path / "light.onnx"), tmp_path / "filled.onnx")
    assert check(tmp_path / "filled.onnx").sound


def test_weights_beside_the_file_that_are_lost_are_filled_at_a_sensible_scale(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(convolutional(), path, save_as_external_data=True, location="m.data", size_threshold=0)
    (tmp_path / "m.data").unlink()
    made = fill(ModelFile(path), tmp_path / "filled.onnx")
    assert made.weights == 5
    filled = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(tmp_path / "filled.onnx").graph.initializer
    }
    assert 0.5 / np.sqrt(72) < filled["body.weight"].std() < 2 / np.sqrt(72)


def test_weights_beside_the_file_are_read_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(convolutional(), path, save_as_external_data=True, location="m.data", size_threshold=0)
    lighten(ModelFile(path), tmp_path / "light.onnx")
    stub = next(each for each in onnx.load(tmp_path / "light.onnx", load_external_data=False).graph.initializer)
    told = json.loads(next(prop.value for prop in stub.metadata_props))
    assert set(told) == {"mean", "std", "min", "max"}


def test_a_light_file_is_described_and_checked_as_far_as_it_goes(tmp_path: Path) -> None:
    onnx.save(convolutional(), tmp_path / "m.onnx")
    lighten(ModelFile(tmp_path / "m.onnx"), tmp_path / "light.onnx")
    whole, light = (describe(ModelFile(tmp_path / f"{name}.onnx"), {}, ask=False) for name in ("m", "light"))
    assert (light.parameters, light.work.macs, light.types) == (whole.parameters, whole.work.macs, whole.types)
    verdict = check(tmp_path / "light.onnx")
    assert verdict.sound
    assert verdict.left_out


def test_both_refuse_what_is_done_already(tmp_path: Path) -> None:
    onnx.save(convolutional(), tmp_path / "m.onnx")
    with pytest.raises(BadUsage, match="has all its weights"):
        fill(ModelFile(tmp_path / "m.onnx"), tmp_path / "f.onnx")
    lighten(ModelFile(tmp_path / "m.onnx"), tmp_path / "light.onnx")
    with pytest.raises(BadUsage, match="taken out of"):
        lighten(ModelFile(tmp_path / "light.onnx"), tmp_path / "f.onnx")
    assert not (tmp_path / "f.onnx").exists()


def resized(*, constant: bool) -> onnx.ModelProto:
    """An upsampling by scales along five axes, then a Reshape to five axes."""
    scales, target = np.array([1, 1, 2, 2, 2], np.float32), np.array([1, 2, 4, 4, 4])
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["r"], mode="nearest"),
        helper.make_node("Reshape", ["r", "target"], ["y"]),
    ]
    weights: dict[str, tiny_graphs.Array] = {"target": target}
    if constant:
        nodes.insert(0, helper.make_node("Constant", [], ["scales"], value=numpy_helper.from_array(scales)))
    else:
        weights["scales"] = scales
    return tiny_graphs.model(nodes, {"x": [1, 2, 2, 2, 2]}, {"y": [1, 2, 4, 4, 4]}, weights)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("beside", [False, True])
def test_what_decides_shapes_stays_wherever_it_lies(beside: bool, constant: bool, tmp_path: Path) -> None:
    more: dict[str, Any] = {"save_as_external_data": True, "location": "m.data", "size_threshold": 0} if beside else {}
    onnx.save(resized(constant=constant), tmp_path / "m.onnx", **more)
    made = lighten(ModelFile(tmp_path / "m.onnx"), tmp_path / "light.onnx")
    assert (made.weights, made.kept) == (0, 2)
    light = onnx.load(tmp_path / "light.onnx")
    held = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in all_tensors(light)}
    assert held == {"scales": [1, 1, 2, 2, 2], "target": [1, 2, 4, 4, 4]}


def test_small_weights_beside_the_file_come_with_it(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    node = helper.make_node("Mul", ["x", "half"], ["y"])
    model = tiny_graphs.model([node], {"x": [2]}, {"y": [2]}, {"half": np.array([0.5, 0.25], np.float32)})
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    lighten(ModelFile(path), tmp_path / "light.onnx")
    (tmp_path / "m.data").unlink()
    assert check(tmp_path / "light.onnx").faults == ()


def test_what_decides_shapes_and_is_lost_is_said(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(resized(constant=False), path, save_as_external_data=True, location="m.data", size_threshold=0)
    (tmp_path / "m.data").unlink()
    lighten(ModelFile(path), tmp_path / "light.onnx")
    verdict = check(tmp_path / "light.onnx")
    assert verdict.sound and any(each.startswith("shapes") for each in verdict.left_out)
    made = fill(ModelFile(path), tmp_path / "filled.onnx")
    assert made.notes == ("What decides shapes is lost, and filled with numbers: target, scales.",)


def test_a_list_of_numbers_in_a_constant_node_is_taken_out(tmp_path: Path) -> None:
    secret = drawn(64).tolist()
    nodes = [helper.make_node("Constant", [], ["c"], value_floats=secret), helper.make_node("Add", ["x", "c"], ["y"])]
    onnx.save(tiny_graphs.model(nodes, {"x": [64]}, {"y": [64]}, {}), tmp_path / "m.onnx")
    assert lighten(ModelFile(tmp_path / "m.onnx"), tmp_path / "light.onnx").weights == 1
    assert np.array(secret, np.float32).tobytes()[:32] not in (tmp_path / "light.onnx").read_bytes()
    fill(ModelFile(tmp_path / "light.onnx"), tmp_path / "filled.onnx")
    assert check(tmp_path / "filled.onnx").faults == ()

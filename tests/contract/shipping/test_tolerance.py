"""A tolerance follows from measuring: wide enough for other ways of computing, too narrow for another model."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from exporters.model_file import ModelFile
from tests.contract.shipping.conftest import write_net
from toolchain.shipping.tolerance import measured, products_in


def calls(width: int, count: int = 6) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(1)
    return [{"x": random.normal(size=(1, width)).astype(np.float32)} for _ in range(count)]


def deep(path: Path, *, width: int = 256, layers: int = 8, reversed_sums: bool = False) -> Path:
    """Products one after the other; with ``reversed_sums`` the same ones, summed in another order."""
    random = np.random.default_rng(0)
    lines, weights = [], []
    for layer in range(layers):
        weight = (random.normal(size=(width, width)) / np.sqrt(width)).astype(np.float32)
        order = slice(None, None, -1) if reversed_sums else slice(None)
        weights.append(numpy_helper.from_array(np.ascontiguousarray(weight[order, order]), f"w{layer}"))
        lines.append(f"h{layer} = MatMul({'x' if not layer else f'h{layer - 1}'}, w{layer})")
    text = f"""<ir_version: 9, opset_import: ["": 18]>
    deep (float[N, {width}] x) => (float[N, {width}] y) {{ {" ".join(lines)} y = Identity(h{layers - 1}) }}"""
    model = parser.parse_model(text)
    model.graph.initializer.extend(weights)
    onnx.save(model, path)
    return path


def test_another_order_of_sums_passes_and_another_weight_does_not(tmp_path: Path) -> None:
    given = calls(256)
    answers = measured(ModelFile(deep(tmp_path / "deep.onnx")), given)
    limit = answers.tolerances["y"].absolute
    turned = onnxruntime.InferenceSession(str(deep(tmp_path / "turned.onnx", reversed_sums=True)))
    off = [
        np.abs(turned.run(None, {"x": call["x"][:, ::-1].copy()})[0][:, ::-1] - want["y"]).max()
        for call, want in zip(given, answers.outputs, strict=True)
    ]
    assert 0 < max(off) < limit
    model = onnx.load(tmp_path / "deep.onnx")
    weight = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight[0] *= 1.01
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w0"))
    other = measured(ModelFile.of(model, tmp_path / "deep.onnx"), given)  # the file is the old one
    assert other.tolerances["y"].absolute == limit
    onnx.save(model, tmp_path / "other.onnx")
    changed = onnxruntime.InferenceSession(str(tmp_path / "other.onnx"))
    assert np.abs(changed.run(None, given[0])[0] - answers.outputs[0]["y"]).max() > 10 * limit


def test_what_rounds_to_integers_inside_gets_a_tolerance_of_such_a_step(tmp_path: Path) -> None:
    """A value on the border between two steps falls on either side; the nudged inputs find it."""
    text = """<ir_version: 9, opset_import: ["": 18]>
    steps (float[N, 2] x) => (float[N, 2] y) <float s = {0.5}, uint8 z = {0}> {
        q = QuantizeLinear(x, s, z)
        y = DequantizeLinear(q, s, z)
    }"""
    onnx.save(parser.parse_model(text), tmp_path / "steps.onnx")
    border = [{"x": np.array([[0.75, 1.25]], np.float32)}]
    assert measured(ModelFile(tmp_path / "steps.onnx"), border).tolerances["y"].absolute >= 0.5
    clear = [{"x": np.array([[0.6, 1.1]], np.float32)}]
    assert measured(ModelFile(tmp_path / "steps.onnx"), clear).tolerances["y"].absolute < 1e-5


def test_whole_numbers_are_compared_exactly(tmp_path: Path) -> None:
    text = '<ir_version: 9, opset_import: ["": 18]> a (float[N, 4] x) => (int64[N, 1] y) { y = ArgMax<axis = 1>(x) }'
    onnx.save(parser.parse_model(text), tmp_path / "a.onnx")
    found = measured(ModelFile(tmp_path / "a.onnx"), calls(4)).tolerances["y"]
    assert (found.absolute, found.relative, found.why) == (0.0, 0.0, "int64 is compared exactly")


@pytest.mark.parametrize(("shape", "products"), [((16, 8, 3, 3), 72), ((5000, 512), 5000), ((7,), 1)])
def test_the_products_of_a_sum_are_counted_from_above(shape: tuple[int, ...], products: int, tmp_path: Path) -> None:
    model = onnx.load(write_net(tmp_path / "net.onnx"))
    del model.graph.initializer[:]
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), "w"))
    assert products_in(ModelFile.of(model, tmp_path / "net.onnx")) == products

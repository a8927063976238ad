"""Which Attention nodes are brought to 3-D form, and that the result is the same in ONNX Runtime."""

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import onnx_file
from exporters.int8 import attention_form

BATCH, QUERIES, KEYS, SIZE = 3, 5, 7, 8
SWAP = [0, 2, 1, 3]


def attention_model(
    *,
    heads: tuple[int, int, int] = (4, 4, 4),
    v_size: int = SIZE,
    mask: tuple[TensorProto.DataType, list[int | str]] | None = None,
    opset: int = 23,
    perm: list[int] = SWAP,
    targets: dict[str, list[int]] | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    """query (b, 5, hidden), key and value (b, 7, hidden) -> split into heads -> Attention -> merged y (b, 5, hidden).

    ``targets`` overrides what the Reshapes aim at, by the name of the tensor that they take.
    """
    sizes = {"query": (QUERIES, heads[0], SIZE), "key": (KEYS, heads[1], SIZE), "value": (KEYS, heads[2], v_size)}
    aims = {name: [-1, *size] for name, size in sizes.items()} | {"merge": [-1, QUERIES, heads[0] * v_size]}
    aims |= targets or {}
    nodes = []
    for name in sizes:
        nodes.append(helper.make_node("Reshape", [name, f"{name}.shape"], [f"{name}.split"], f"{name}_split"))
        nodes.append(helper.make_node("Transpose", [f"{name}.split"], [f"{name}.4d"], f"{name}_swap", perm=perm))
    inputs = [f"{name}.4d" for name in sizes] + ["mask"] * (mask is not None)
    nodes.append(helper.make_node("Attention", inputs, ["context"], "attention", **attributes))
    nodes.append(helper.make_node("Transpose", ["context"], ["swapped"], "swap_back", perm=perm))
    nodes.append(helper.make_node("Reshape", ["swapped", "merge.shape"], ["y"], "merge"))
    given = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", length, count * size])
        for name, (length, count, size) in sizes.items()
    ]
    given += [helper.make_tensor_value_info("mask", *mask)] if mask else []
    shapes = [numpy_helper.from_array(np.array(aim, np.int64), f"{name}.shape") for name, aim in aims.items()]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", QUERIES, "hidden"])
    graph = helper.make_graph(nodes, "attention", given, [y], shapes)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def outputs(model: onnx.ModelProto) -> np.ndarray:
    random = np.random.default_rng(0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {}
    for value in session.get_inputs():
        noise = random.normal(size=[BATCH if isinstance(axis, str) else axis for axis in value.shape])
        feeds[value.name] = noise > -0.5 if value.type == "tensor(bool)" else noise.astype(np.float32)
    found: np.ndarray = session.run(None, feeds)[0]
    return found


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"scale": 0.3},
        {"is_causal": 1},
        {"softcap": 3.0},
        {"v_size": 16},
        {"heads": (4, 2, 2)},
        {"heads": (4, 1, 1)},
        {"mask": (TensorProto.FLOAT, [QUERIES, KEYS])},
        {"mask": (TensorProto.FLOAT, ["b", 1, QUERIES, KEYS])},
        {"mask": (TensorProto.FLOAT, ["b", 4, QUERIES, KEYS])},
        {"mask": (TensorProto.BOOL, ["b", 1, QUERIES, KEYS])},
        {"mask": (TensorProto.BOOL, ["b", 1, QUERIES, KEYS]), "heads": (4, 2, 2), "scale": 0.5},
        {"targets": {"query": [0, 0, 4, SIZE], "merge": [0, 0, -1]}},
        {"opset": 24},
    ],
    ids=str,
)
def test_the_three_dimensional_form_is_the_same_to_the_bit(given: dict[str, Any]) -> None:
    model = attention_model(**given)
    before = model.SerializeToString()
    changed = attention_form.flattened(model)
    assert changed is not None
    assert model.SerializeToString() == before
    flat, sentence = changed
    assert [node.op_type for node in flat.graph.node] == ["Attention"]
    assert not flat.graph.initializer
    assert "1 Attention" in sentence
    assert "4 Transposes" in sentence
    onnx_file.check(flat, step="test")
    np.testing.assert_array_equal(outputs(flat), outputs(model))


def with_second_reader(tensor: str) -> onnx.ModelProto:
    model = attention_model()
    model.graph.node.append(helper.make_node("Identity", [tensor], ["seen"], "reader"))
    model.graph.output.append(helper.make_empty_tensor_value_info("seen"))
    return model


def with_output(tensor: str) -> onnx.ModelProto:
    model = attention_model()
    model.graph.output.append(helper.make_empty_tensor_value_info(tensor))
    return model


REFUSED = {
    "an older opset": attention_model(opset=22),
    "another permutation": attention_model(perm=[0, 2, 3, 1]),
    "a Reshape that moves elements between tokens": attention_model(targets={"query": [-1, 8, QUERIES, 4]}),
    "a merge that swaps batch and sequence": attention_model(targets={"merge": [QUERIES, -1, 32]}),
    "keys and values of different heads": attention_model(heads=(4, 4, 2), v_size=16),
    "a second reader of a 4-D input": with_second_reader("key.4d"),
    "a second reader of the split": with_second_reader("query.split"),
    "a second reader of the 4-D output": with_second_reader("context"),
    "a 4-D tensor that is an output": with_output("swapped"),
}


@pytest.mark.parametrize("model", REFUSED.values(), ids=REFUSED)
def test_what_is_not_exactly_that_pattern_stays(model: onnx.ModelProto) -> None:
    assert attention_form.flattened(model) is None


def test_another_domains_attention_stays() -> None:
    model = attention_model()
    next(node for node in model.graph.node if node.op_type == "Attention").domain = "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert attention_form.flattened(model) is None


def test_a_shape_that_something_else_reads_stays() -> None:
    model = attention_model()
    model.graph.node.append(helper.make_node("Identity", ["query.shape"], ["kept"], "reader"))
    model.graph.output.append(helper.make_tensor_value_info("kept", TensorProto.INT64, [4]))
    changed = attention_form.flattened(model)
    assert changed is not None
    assert [tensor.name for tensor in changed[0].graph.initializer] == ["query.shape"]


def test_a_claim_about_a_shape_is_not_a_proof() -> None:
    """value_info is what the file says: here the true axes are unknown, because nothing says what 'shape' holds."""
    model = attention_model()
    for tensor in list(model.graph.initializer):
        if tensor.name == "query.shape":
            model.graph.initializer.remove(tensor)
    model.graph.input.append(helper.make_tensor_value_info("query.shape", TensorProto.INT64, [4]))
    claim = helper.make_tensor_value_info("query.split", TensorProto.FLOAT, ["b", QUERIES, 4, SIZE])
    model.graph.value_info.append(claim)
    assert attention_form.flattened(model) is None


def test_of_two_attentions_the_one_that_fits_is_changed() -> None:
    model = attention_model()
    other = attention_model(perm=[0, 2, 3, 1])
    prefixed = onnx.compose.add_prefix(other, "other_")
    model.graph.node.extend(prefixed.graph.node)
    model.graph.input.extend(prefixed.graph.input)
    model.graph.output.extend(prefixed.graph.output)
    model.graph.initializer.extend(prefixed.graph.initializer)
    changed = attention_form.flattened(model)
    assert changed is not None
    assert Counter(node.op_type for node in changed[0].graph.node) == {"Attention": 2, "Reshape": 4, "Transpose": 4}

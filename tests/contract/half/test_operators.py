"""ONNX's own tests of its operators, in half precision: what is made is valid, opens, and is right as hardware has it.

A seeded twentieth of them: the whole took 100 s on two cores.
"""

import random
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.errors import ExporterError, WrongResult
from exporters.half import fp16
from exporters.half.emulation import emulated
from exporters.model_file import ModelFile

SEED, SHARE = 0, 20
TOLERANCE = 0.02  # of the largest value
RANDOM = {"Dropout", "RandomNormalLike", "RandomUniformLike", "Bernoulli"}
BEYOND = {  # by the data or the definition of the test, which half precision cannot hold: a proof finds those
    "test_reduce_prod_default_axes_keepdims_example", "test_softmax_large_number", "test_logsoftmax_large_number",
    "test_attention_4d_with_past_and_present_qk_matmul_bias_3d_mask_causal",
    "test_attention_4d_with_past_and_present_qk_matmul_bias_4d_mask_causal",
}  # fmt: skip


@cache
def cases() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found = {case.name: case for case in collect_testcases("")}
    usable = sorted(
        name for name, case in found.items() if "_expanded" not in name and case.model and _floats(case.model)
    )
    calm = [name for name in usable if not any(operator.lower() in name for operator in RANDOM)]
    chosen = random.Random(SEED).sample(sorted(set(calm) - BEYOND), len(calm) // SHARE)
    return {name: found[name] for name in chosen}


def _floats(model: onnx.ModelProto) -> list[str]:
    return [value.name for value in model.graph.input if value.type.tensor_type.elem_type == TensorProto.FLOAT]


def weighted(model: onnx.ModelProto, feed: dict[str, Any]) -> onnx.ModelProto:
    """``model`` with its float inputs but the first as weights, or, where it has one, that one times a weight."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    first, *others = _floats(made)
    inputs = [value for value in model.graph.input if value.name not in others]
    del made.graph.input[:]
    made.graph.input.extend(inputs)
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(feed.pop(name)), name) for name in others)
    if others:
        return made
    made.graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), "one"))
    for node in made.graph.node:
        node.input[:] = ["scaled" if name == first else name for name in node.input]
    made.graph.node.insert(0, helper.make_node("Mul", [first, "one"], ["scaled"]))
    return made


def run(model: onnx.ModelProto, feed: dict[str, Any]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return list(session.run(None, feed))


def faults(right: Any, found: Any) -> Iterator[str]:
    if isinstance(right, list):
        for one, other in zip(right, found, strict=True):
            yield from faults(one, other)
        return
    right, found = np.asarray(right), np.asarray(found)
    if right.shape != found.shape or right.dtype != found.dtype:
        yield f"{right.dtype}{right.shape} became {found.dtype}{found.shape}"
    elif right.dtype.kind != "f":
        if right.size and np.mean(right != found) > TOLERANCE:
            yield "other answers"
    elif not np.array_equal(finite := np.isfinite(right), np.isfinite(found)):
        yield "infinite"
    elif (error := np.abs(right - found)[finite].max(initial=0)) > TOLERANCE * np.abs(right[finite]).max(initial=1e-3):
        yield f"off by {error}"


@pytest.mark.slow
def test_every_operator_is_right_or_refused(tmp_path: Path) -> None:
    failed: dict[str, str] = {}
    proven = 0
    for name, case in cases().items():
        inputs = case.data_sets[0][0]
        feed = {value.name: array for value, array in zip(case.model.graph.input, inputs, strict=False)}
        model = weighted(case.model, feed)
        try:
            right = run(model, feed)
        except Exception:  # noqa: BLE001 - what ONNX Runtime does not run in fp32 nobody converts
            continue
        onnx.save(model, tmp_path / "m.onnx")
        try:
            fp16.convert(ModelFile(tmp_path / "m.onnx"), tmp_path / "h.onnx")
        except WrongResult as error:
            failed[name] = error.what
            continue
        except ExporterError:
            continue
        try:
            made = onnx.load(tmp_path / "h.onnx")
            onnx.checker.check_model(made, full_check=True)
            run(made, feed)
            found = list(faults(right, run(emulated(made), feed)))
        except Exception as error:  # noqa: BLE001 - each is a failure, and all are to be seen
            found = [str(error)]
        proven += not found
        if found:
            failed[name] = "; ".join(found)[:200]
    assert not failed
    assert proven > 15

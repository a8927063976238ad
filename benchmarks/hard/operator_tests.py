"""The onnx package's own tests of single operators on floats, in four modes: as they are, and behind a product.

A test brings one set of inputs; calibration and the judgement use copies of it, scaled by 0.9 to 1 element by element,
which stay in the domain of Acos and Log alike. Behind a product (of near-identity weights on the last axis) every
converter has something to convert, and the operator stands in the middle of a converted graph.
"""

import functools
import json
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from benchmarks.hard import comparing, verdicts
from benchmarks.hard.cases import MODES, written
from benchmarks.hard.runs import Place, watched
from benchmarks.hard.verdicts import Verdict

PART = "operators"
Array = npt.NDArray[Any]

_NEWEST_OPSET = 26  # that ONNX Runtime 1.31 loads
_DTYPES = (np.float32, np.int64, np.int32, np.bool_, np.uint8)
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "BatchNormalization", "DeformConv"}
_FORMS = {"": 4, " behind a product": 2}  # and how many of each operator
_CALIBRATION, _HELD_BACK = 48, 8
_SECONDS = 30.0
_SCRIPT = """import numpy as np


def samples():
    with np.load("samples.npz") as arrays:
        for index in range({count}):
            yield {{key: arrays[f"{{key}}/{{index}}"] for key in {names}}}
"""


@functools.cache
def _collected() -> dict[str, tuple[onnx.ModelProto, dict[str, Array], list[Array]]]:
    """By name: the model, its inputs and right outputs, of all tests of one operator from floats to floats."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values that overflow on purpose
        found = collect_testcases(None)
    return {
        test.name: (
            test.model,
            dict(zip((i.name for i in test.model.graph.input), inputs, strict=False)),
            list(outputs),
        )
        for test in found
        if test.model is not None and test.data_sets
        for inputs, outputs in test.data_sets[:1]
        if _fits(test.model, list(inputs), list(outputs))
    }


def _fits(model: onnx.ModelProto, inputs: list[Any], outputs: list[Any]) -> bool:
    if len(model.graph.node) != 1 or model.functions or any(opset.domain for opset in model.opset_import):
        return False
    values = [*inputs, *outputs]
    if not all(isinstance(value, np.ndarray) and value.dtype in _DTYPES for value in values):
        return False
    floats = [any(value.dtype == np.float32 and value.size for value in each) for each in (inputs, outputs)]
    return all(floats) and model.opset_import[0].version <= _NEWEST_OPSET


def names() -> list[str]:
    """Of every test whose right values ONNX Runtime gives, and of its form behind a product where that runs."""
    _collected()
    with Place.new() as place:

        def act() -> int:
            print(json.dumps(list(_chosen(place.here / "model.onnx"))))
            return 0

        watched(act, place, seconds=600)
        found: list[str] = json.loads((place.folder / "out").read_text(encoding="utf-8").splitlines()[-1])
        return found


def _chosen(scratch: Path) -> Iterator[str]:
    """The first few of each operator: 82 of 623 that run are Attention's."""
    for form, most in _FORMS.items():
        taken: Counter[str] = Counter()
        for test, (model, *_) in _collected().items():
            operator = model.graph.node[0].op_type
            if taken[operator] < most and _runs(test + form, scratch):
                taken[operator] += 1
                yield test + form


def _runs(name: str, path: Path) -> bool:
    built = _built(name)
    if built is None:
        return False
    model, inputs = built
    try:
        onnx.save(model, path)
        got, _ = comparing.outputs(path, [inputs, *_copies(inputs, 2)], exact=True)
    except Exception:  # noqa: BLE001 - an operator that ONNX Runtime lacks is no test
        return False
    right = _collected()[name.split()[0]][2]
    return " " in name or not comparing.differences([str(k) for k in range(len(right))], [right], got[:1])


def _built(name: str) -> tuple[onnx.ModelProto, dict[str, Array]] | None:
    """The model of a name and its inputs; None where no product fits in front."""
    given, inputs, _ = _collected()[name.split()[0]]
    model = onnx.ModelProto()
    model.CopyFrom(given)
    model.ir_version = min(model.ir_version, 11)
    graph = model.graph
    if " " not in name:
        return model, dict(inputs)
    first = next(key for key, value in inputs.items() if value.dtype == np.float32)
    if inputs[first].ndim < 2 or not inputs[first].size:
        return None
    constant = {
        key
        for key, value in inputs.items()
        if key != first and (value.dtype in (np.int64, np.int32, np.uint8) or graph.node[0].op_type in _WEIGHTED)
    }
    graph.initializer.extend(numpy_helper.from_array(inputs[key], key) for key in constant)
    kept = [value for value in graph.input if value.name not in constant]
    del graph.input[:]
    graph.input.extend(kept)
    width = inputs[first].shape[-1]
    weights = (np.eye(width) + 0.02 * np.abs(np.random.default_rng(0).normal(size=(width, width)))).astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(weights / weights.sum(0, keepdims=True), "product_weights"))
    operator = graph.node[0]
    reads = ["product" if each == first else each for each in operator.input]
    del operator.input[:]
    operator.input.extend(reads)
    graph.node.insert(0, helper.make_node("MatMul", [first, "product_weights"], ["product"], "the_product"))
    return model, {key: value for key, value in inputs.items() if key not in constant}


def _copies(inputs: dict[str, Array], count: int, seed: int = 0) -> list[dict[str, Array]]:
    draw = np.random.default_rng(seed)
    return [
        {
            key: value * draw.uniform(0.25, 1.0, value.shape).astype(np.float32) if value.dtype == np.float32 else value
            for key, value in inputs.items()
        }
        for _ in range(count)
    ]


def of_name(name: str) -> list[Verdict]:
    built = _built(name)
    assert built is not None
    model, inputs = built
    held = [inputs, *_copies(inputs, _HELD_BACK, seed=1)]
    with Place.new() as place:
        source = place.here / "model.onnx"
        onnx.save(model, source)
        calls = [inputs, *_copies(inputs, _CALIBRATION - 1)]
        np.savez(
            place.here / "samples.npz",
            allow_pickle=False,
            **{f"{key}/{k}": value for k, call in enumerate(calls) for key, value in call.items()},
        )
        script = _SCRIPT.format(count=_CALIBRATION, names=list(inputs))
        (place.here / "data.py").write_text(script, encoding="utf-8")
        return [_verdict(name, mode, place, source, held) for mode in MODES]


def _verdict(name: str, mode: str, place: Place, source: Path, held: list[dict[str, Array]]) -> Verdict:
    made = place.here / f"{mode}.onnx"
    command = ["data.py:samples" if word == "calib.npz" else word for word in MODES[mode]]
    if mode != "static":  # else it would be proven on made-up values, and what real ones do is left open
        command += ["--eval", "data.py:samples"]
    run = place.nnx(*command, "-o", made.name, makes=(made.name,), seconds=_SECONDS)
    return verdicts.of(
        run, part=PART, name=f"{name} {mode}", made=made.exists(),
        judge=lambda: written(made, lambda: comparing.compare(source, made, held)),
    )  # fmt: skip

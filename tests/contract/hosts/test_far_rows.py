"""A row on another machine gives what one here gives, whatever its model's axes; all of it but ssh is real."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.batch_axes import BatchAxes
from exporters.model_file import ModelFile
from tests.contract.hosts import far_side
from toolchain.accuracy.status import Status
from toolchain.bench import benchmark, candidates
from toolchain.bench.effort import Effort
from toolchain.bench.judgement import Judgement, Outputs
from toolchain.bench.record import Benchmark, Row, Setting
from toolchain.inputs.samples import Samples
from toolchain.processes.turns import JobFailed

Array = npt.NDArray[Any]
QUICK = Effort(min_rounds=2, min_runs=3, seconds=0.01, warm_up_s=0.0, max_time_s=1.0, timeout_s=20.0)
RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.normal(size=(4, 3)).astype(np.float32)


def model(
    path: Path, inputs: Mapping[str, list[int | str]], nodes: list[onnx.NodeProto], output: list[int | str],
    kind: int = TensorProto.FLOAT, *, beside: bool = False,
) -> ModelFile:  # fmt: skip
    weight = WEIGHT.astype(helper.tensor_dtype_to_np_dtype(kind))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", kind, output)],
        [numpy_helper.from_array(weight, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(made, path, save_as_external_data=beside, location="weights.bin" if beside else None, size_threshold=0)
    return ModelFile(path)


def rows(count: int, *shape: int) -> Array:
    return RANDOM.normal(size=(count, *shape)).astype(np.float32)


PRODUCT = [helper.make_node("MatMul", ["x", "w"], ["y"])]
NEGATED = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Neg", ["p"], ["y"])]
SUM = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "by"], ["y"])]
LAST = [
    helper.make_node("MatMul", ["x", "w"], ["p"]),
    helper.make_node("Transpose", ["p"], ["y"], perm=[0, 2, 1]),
]
CASES: dict[str, Any] = {
    "a batch": ({"x": ["batch", 4]}, PRODUCT, ["batch", 3], {"x": rows(7, 4)}, 5),
    "the batch second": ({"x": [2, "batch", 4]}, LAST, [2, 3, "batch"], {"x": rows(7, 2, 4)}, 3),
    "a value that all share": ({"x": ["batch", 4], "by": [3]}, SUM, ["batch", 3], {"x": rows(7, 4), "by": rows(3)}, 2),
    "a value of each": ({"x": ["batch", 4], "by": [3]}, SUM, ["batch", 3], {"x": rows(7, 4), "by": rows(7, 3)}, 1),
    "a value of each in a batch": (
        {"x": ["batch", 4], "by": [3]},
        SUM,
        ["batch", 3],
        {"x": rows(7, 4), "by": rows(4, 3)[[0, 0, 0, 1, 1, 2, 3]]},
        2,
    ),
    "unequal shapes": (
        {"x": ["batch", "time", 4]},
        PRODUCT,
        ["batch", "time", 3],
        {"x": [rows(time, 4) for time in (2, 2, 2, 3, 5, 5)]},
        2,
    ),
    "calls of their own": (
        {"x": ["batch", 4]},
        PRODUCT,
        ["batch", 3],
        {"x": [rows(count, 4) for count in (2, 3, 1)]},
        1,
    ),
    "no batch": ({"x": [2, 4]}, PRODUCT, [2, 3], {"x": rows(5, 2, 4)}, 1),
    "a fixed batch": ({"x": [2, 4]}, PRODUCT, [2, 3], {"x": rows(6, 4)}, 2),
}


def measured(file: ModelFile, samples: Samples, batch: int, here: bool = True) -> tuple[Benchmark, dict[Any, Outputs]]:
    """The row on another machine and the one here, and what each gave."""
    given: dict[Any, Outputs] = {}

    def judge(row: Row, outputs: Outputs, baseline: tuple[Row, Outputs] | None) -> Judgement:
        given[row.setting.host] = [{name: np.array(value) for name, value in call.items()} for call in outputs]
        return Judgement()

    setting = Setting(provider="cpu", batch=batch, threads=1)
    candidate = candidates.of_file(file, label="it")
    with far_side.host() as host:
        far = replace(setting, host=host.address)
        found = benchmark.run(
            [candidate], [setting, far] if here else [far], samples, judge=judge, effort=QUICK,
            others={host.address: host},
        )  # fmt: skip
    return found, given


@pytest.mark.parametrize("name", CASES)
def test_it_answers_call_by_call_as_one_here(name: str, tmp_path: Path) -> None:
    inputs, nodes, output, arrays, batch = CASES[name]
    file = model(tmp_path / "m.onnx", inputs, nodes, output)
    samples = Samples(inputs=arrays, labels=None, source="noise", layout=file.batch_axes)
    found, given = measured(file, samples, batch)
    assert [row.reason for row in found.rows] == ["", ""]
    here, there = found.rows
    assert (here.shapes, here.nodes) == (there.shapes, there.nodes)
    assert len(there.rounds_ms) >= 2 and there.load_ms and there.first_run_ms and there.peak_memory_bytes
    assert [list(call) for call in given[None]] == [list(call) for call in given[far_side.HOST]]
    for ours, theirs in zip(given[None], given[far_side.HOST], strict=True):
        np.testing.assert_array_equal(ours["y"], theirs["y"])


def test_halves_and_weights_beside_the_model_go_there(tmp_path: Path) -> None:
    file = model(
        tmp_path / "m.onnx", {"x": ["batch", 4]}, PRODUCT, ["batch", 3], TensorProto.FLOAT16, beside=True
    )  # fmt: skip
    assert file.external_files
    samples = Samples(inputs={"x": rows(3, 4)}, labels=None, source="noise", layout=file.batch_axes)
    found, given = measured(file, samples, 2)
    assert [row.reason for row in found.rows] == ["", ""]
    np.testing.assert_array_equal(given[None][0]["y"], given[far_side.HOST][0]["y"])


def test_its_machine_is_described(tmp_path: Path) -> None:
    file = model(tmp_path / "m.onnx", {"x": ["batch", 4]}, PRODUCT, ["batch", 3])
    found, _ = measured(file, Samples(inputs={"x": rows(3, 4)}, labels=None, source="noise"), 1, here=False)
    (facts,) = found.hosts.values()
    ours = {
        name: found.machine[name] for name in ("system", "architecture", "processor", "cores", "memory_bytes", "isa")
    }
    assert {name: facts[name] for name in ours} == ours | {"isa": list(ours["isa"])}
    assert facts["emulated"] == ""
    assert Benchmark.from_json(found.to_json()).hosts == found.hosts


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"provider": "cuda"}, Status.UNAVAILABLE, "The onnxruntime there has no CUDAExecutionProvider, only"),
        ({"cpus": (4000,)}, Status.FAILED, "here says: the program cannot be started on processor 4000."),
        ({"batch": 2}, Status.FAILED, "The model takes one sample a call: it has no batch axis. Use batch 1."),
    ],
)
def test_what_it_cannot_do_is_its_row_s_reason(
    change: dict[str, Any], status: Status, said: str, tmp_path: Path
) -> None:
    file = model(tmp_path / "m.onnx", {"x": [2, 4]}, PRODUCT, [2, 3])
    none = BatchAxes({"x": None}, {"y": None}, None, {"x": (2, 4)})
    samples = Samples(inputs={"x": rows(3, 2, 4)}, labels=None, source="noise", layout=none)
    with far_side.host() as host:
        setting = replace(Setting(provider="cpu", batch=1, threads=1, host=host.address), **change)
        found = benchmark.run(
            [candidates.of_file(file, label="it")], [setting], samples, judge=lambda *_: Judgement(), effort=QUICK,
            others={host.address: host},
        )  # fmt: skip
    (row,) = found.rows
    assert row.status is status
    assert said in row.reason


def test_a_lost_machine_fails_its_rows_with_the_reason_and_leaves_the_others(tmp_path: Path) -> None:
    file = model(tmp_path / "m.onnx", {"x": ["batch", 4]}, PRODUCT, ["batch", 3])
    samples = Samples(inputs={"x": rows(4, 4)}, labels=None, source="noise", layout=file.batch_axes)
    settings = [Setting(provider="cpu", batch=batch, threads=1) for batch in (1, 2)]
    with far_side.host() as host:
        turns = 0

        def seen(benchmark: Benchmark) -> None:
            nonlocal turns
            turns += 1
            host.connection._process.kill()

        found = benchmark.run(
            [candidates.of_file(file, label="it")],
            [replace(each, host=place) for place in (None, host.address) for each in settings],
            samples, judge=lambda *_: Judgement(), effort=QUICK, keep=seen, others={host.address: host},
        )  # fmt: skip
    assert turns
    assert [row.status for row in found.rows] == [Status.OK] * 2 + [Status.FAILED] * 2
    assert all(row.reason.startswith("what runs on here broke off with code -9") for row in found.rows[2:])
    assert found.complete


def test_a_runner_that_cannot_load_the_model_says_why(tmp_path: Path) -> None:
    file = model(tmp_path / "m.onnx", {"x": ["batch", 4]}, [helper.make_node("No", ["x", "w"], ["y"])], ["batch", 3])
    found, _ = measured(file, Samples(inputs={"x": rows(3, 4)}, labels=None, source="noise"), 1, here=False)
    assert "refuses model.onnx: " in found.rows[0].reason


def test_torch_is_left_out_there_or_told(tmp_path: Path) -> None:
    with far_side.host(python=sys.executable) as host, pytest.raises(JobFailed, match="do not run on here") as failure:
        host.start("", {"runtime": "eager"}, threads=1, cpus=(), timeout_s=1.0)
    assert failure.value.kind == "ProviderUnavailable"


def test_a_model_that_is_written_anew_is_sent_anew(tmp_path: Path) -> None:
    samples = Samples(inputs={"x": rows(3, 4)}, labels=None, source="noise")
    given: list[Any] = []

    def judge(row: Row, outputs: Outputs, baseline: tuple[Row, Outputs] | None) -> Judgement:
        given.append(np.array(outputs[0]["y"]))
        return Judgement()

    with far_side.host() as host:
        setting = Setting(provider="cpu", batch=1, threads=1, host=host.address)
        for nodes in (PRODUCT, NEGATED):
            file = model(tmp_path / "m.onnx", {"x": ["batch", 4]}, nodes, ["batch", 3])
            benchmark.run(
                [candidates.of_file(file, label="it")], [setting], samples, judge=judge, effort=QUICK,
                others={host.address: host},
            )  # fmt: skip
    np.testing.assert_array_equal(given[0], -given[1])

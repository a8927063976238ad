"""Which settings are tried, and which are chosen from the times."""

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import onnx_file, provenance
from exporters.model_file import ModelFile
from runtimes.session_settings import SessionSettings, stored_in
from tests.unit.bench.fake_contestant import FakeContestant
from toolchain.accuracy.status import Status
from toolchain.bench import benchmark
from toolchain.bench.effort import Effort
from toolchain.bench.record import Setting
from toolchain.conversion import settings_search
from toolchain.conversion.settings_search import Found, best, candidates, every_switch, store, thorough
from toolchain.errors import CheckFailed
from toolchain.inputs.samples import Samples

QUICK = Effort(min_rounds=4, min_runs=3, seconds=0, warm_up_s=0, precision=1.0)
SIZE = 8
FEEDS = Samples(inputs={"x": np.ones((4, 3, SIZE), np.float32)}, labels=None, source="ones")
NO_SKIP = SessionSettings(disabled_optimizers=("SkipLayerNormFusion",))
NO_FUSION = SessionSettings(disabled_optimizers=("SkipLayerNormFusion", "BiasGeluFusion"))
BASIC = SessionSettings(graph_level="basic")
NO_PATTERN = SessionSettings(memory_pattern=False)


def model_of(*operators: str) -> onnx.ModelProto:
    """x (n, 3, 8) through ``operators`` one after the other to y."""
    second = {"MatMul": ["w"], "Add": ["b"], "LayerNormalization": ["b", "b"]}
    tensors = ["x", *(f"t{index}" for index in range(1, len(operators))), "y"]
    nodes = [
        helper.make_node(operator, [given, *second.get(operator, [])], [made], f"{operator}_{made}")
        for operator, given, made in zip(operators, tensors, tensors[1:], strict=False)
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, SIZE]) for name in "xy")
    weights = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in WEIGHTS.items()]
    graph = helper.make_graph(nodes, "tiny", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


WEIGHTS = {"w": (SIZE, SIZE), "b": (SIZE,)}
ENCODER = ("MatMul", "Add", "LayerNormalization", "MatMul", "Add", "Gelu")


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    path = tmp_path / "encoder.onnx"
    onnx_file.save(model_of(*ENCODER), path)
    return path


def steady(milliseconds: float) -> Iterator[float]:
    return itertools.cycle([milliseconds])


def noisy(milliseconds: float, spread: float) -> Iterator[float]:
    random = np.random.default_rng(0)
    return iter(lambda: float(milliseconds * random.normal(1, spread)), None)


def search(model: Path, contestants: dict[SessionSettings, FakeContestant], **options: Any) -> Found:
    """Contestants are told apart by the settings in the file that they are given; others take 10 ms."""

    def start(job: str, spec: dict[str, Any], **limits: Any) -> FakeContestant:
        settings = stored_in(Path(spec["model"]))
        assert settings is not None
        return contestants.get(settings) or FakeContestant(steady(10))

    measure: Callable[..., Any] = functools.partial(benchmark.run, start=start)
    return best(
        ModelFile(model), FEEDS, **{"threads": 1, "precision": "fp32", "effort": QUICK, "measure": measure, **options}
    )


@pytest.mark.parametrize(
    ("operators", "precision", "expected"),
    [
        (ENCODER, "fp32", [SessionSettings(), BASIC, NO_SKIP, NO_FUSION, NO_PATTERN]),
        (ENCODER, "int8-dynamic", [SessionSettings(), NO_SKIP, NO_FUSION, NO_PATTERN]),
        (("Add", "LayerNormalization"), "int8-static", [SessionSettings(), NO_SKIP, NO_PATTERN]),
        (("MatMul", "Add", "Gelu"), "fp16", [SessionSettings(), NO_PATTERN]),
        (("MatMul", "LayerNormalization"), "int8-dynamic", [SessionSettings(), NO_PATTERN]),
        (("Add", "ReduceMean", "Sqrt", "Div"), "int8-dynamic", [SessionSettings(), NO_PATTERN]),
    ],
)
def test_only_settings_that_can_matter_are_tried(
    operators: tuple[str, ...], precision: str, expected: list[SessionSettings]
) -> None:
    found = candidates(model_of(*operators), precision=precision)
    assert list(found.values()) == expected
    assert next(iter(found)) == settings_search.DEFAULT


def test_a_norm_that_the_graph_spells_out_counts() -> None:
    text = """<ir_version: 10, opset_import: ["" : 20]>
    tiny (float[n, 3, 8] x) => (float[n, 3, 8] y) {
        added = Add (x, b)
        mean = ReduceMean <keepdims: int = 1> (added, last)
        centred = Sub (added, mean)
        squares = Mul (centred, centred)
        variance = ReduceMean <keepdims: int = 1> (squares, last)
        deviation = Sqrt (variance)
        normal = Div (centred, deviation)
        y = MatMul (normal, w)
    }"""
    model = onnx.parser.parse_model(text)
    weights = {"last": np.array([-1]), "w": np.eye(SIZE, dtype=np.float32), "b": np.ones(SIZE, np.float32)}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    found = candidates(model, precision="int8-dynamic")
    assert list(found.values()) == [SessionSettings(), NO_SKIP, NO_PATTERN]


def test_the_fastest_of_those_that_surely_gain_is_chosen(encoder: Path) -> None:
    times = {NO_SKIP: FakeContestant(steady(8)), NO_FUSION: FakeContestant(steady(5)), BASIC: FakeContestant(steady(9))}
    found = search(encoder, times)
    assert found.settings == NO_FUSION
    assert found.speedup is not None
    assert found.speedup.estimate == pytest.approx(2)
    assert "BiasGeluFusion: 2.00x" in str(found)
    assert len(found.rows) == 5
    assert stored_in(encoder) is None


@pytest.mark.parametrize(
    "times",
    [steady(9.8), steady(12), noisy(9.0, 0.3)],
    ids=["a gain below 3 %", "slower", "a gain that is not sure"],
)
def test_the_defaults_stay_unless_a_gain_is_sure(times: Iterator[float], encoder: Path) -> None:
    found = search(encoder, {NO_SKIP: FakeContestant(times)})
    assert found.settings == SessionSettings()
    assert found.speedup is None
    assert "none is surely 3% faster" in str(found)


def test_a_faster_one_with_other_outputs_is_not_chosen(encoder: Path) -> None:
    found = search(encoder, {NO_SKIP: FakeContestant(steady(1), outputs=np.eye(4) * 1.01)})
    assert found.settings == SessionSettings()
    row = next(row for row in found.rows if row.status is Status.UNPROVEN)
    assert "differ" in row.reason


def test_the_tolerance_is_that_of_the_precision(encoder: Path) -> None:
    contestants = {NO_SKIP: FakeContestant(steady(1), outputs=np.eye(4) * 1.01)}
    assert search(encoder, contestants, precision="int8-dynamic").settings == NO_SKIP


def test_one_that_fails_is_no_hindrance(encoder: Path) -> None:
    contestants = {NO_SKIP: FakeContestant(steady(1), fails_at="open"), NO_FUSION: FakeContestant(steady(5))}
    assert search(encoder, contestants).settings == NO_FUSION


def test_a_model_that_does_not_run_is_told(encoder: Path) -> None:
    with pytest.raises(CheckFailed, match="does not run") as caught:
        search(encoder, {SessionSettings(): FakeContestant(steady(1), fails_at="open")})
    assert caught.value.do == "It broke. Mend it."


def test_settings_in_the_file_are_not_what_others_are_compared_with(encoder: Path) -> None:
    store(ModelFile(encoder), NO_SKIP)
    found = search(encoder, {NO_SKIP: FakeContestant(steady(5))})
    assert found.speedup is not None
    assert found.speedup.estimate == pytest.approx(2)


def test_what_is_stored_is_read_back_and_replaced_and_leaves_the_rest(encoder: Path) -> None:
    before = ModelFile(encoder).proto
    for settings in (NO_SKIP, SessionSettings()):
        store(ModelFile(encoder), settings)
        assert stored_in(encoder) == settings
    after = ModelFile(encoder).proto
    assert list(provenance.read(after)) == ["session_settings"]
    assert after.graph == before.graph


def test_real_processes_run_every_candidate(encoder: Path) -> None:
    found = best(ModelFile(encoder), FEEDS, threads=1, precision="fp32", effort=QUICK)
    assert [row.status for row in found.rows] == ["ok"] * 5
    assert all(row.rounds_ms for row in found.rows)


NO_SPINNING, PARALLEL = SessionSettings(spinning=False), SessionSettings(execution_mode="parallel")


def look_everywhere(model: Path, contestants: dict[SessionSettings, float]) -> Found:
    def start(job: str, spec: dict[str, Any], **limits: Any) -> FakeContestant:
        settings = stored_in(Path(spec["model"]))
        assert settings is not None
        return FakeContestant(steady(contestants.get(settings, 10)))

    measure: Callable[..., Any] = functools.partial(benchmark.run, start=start)
    setting = Setting(provider="cpu", batch=1, threads=1)
    return thorough(ModelFile(model), FEEDS, setting=setting, precision="fp32", effort=QUICK, measure=measure)


def test_what_gains_alone_is_tried_together_and_the_second_measurement_decides(encoder: Path) -> None:
    both = SessionSettings(spinning=False, execution_mode="parallel")
    found = look_everywhere(encoder, {NO_SPINNING: 8, PARALLEL: 5, both: 4})
    assert found.settings == both
    assert found.speedup is not None
    assert found.speedup.estimate == pytest.approx(2.5)
    assert [row.candidate.label for row in found.rows] == [
        "default", "parallel execution", "parallel execution, no spinning"
    ]  # fmt: skip
    assert len(found.tried) == len(every_switch(ModelFile(encoder).proto, precision="fp32"))


def test_together_they_may_be_worse_than_the_best_alone(encoder: Path) -> None:
    both = SessionSettings(spinning=False, execution_mode="parallel")
    assert look_everywhere(encoder, {NO_SPINNING: 8, PARALLEL: 5, both: 20}).settings == PARALLEL


def test_where_nothing_gains_the_defaults_stay(encoder: Path) -> None:
    found = look_everywhere(encoder, {})
    assert found.settings == SessionSettings()
    assert found.speedup is None
    assert found.tried == ()

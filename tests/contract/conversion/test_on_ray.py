"""On a Ray cluster of two workers: what one process finds, also where workers are killed."""

import contextlib
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exporters import onnx_file
from exporters.int8 import targets
from exporters.int8.static import StaticInt8, StaticOptions
from exporters.model_file import ModelFile
from tests.unit.processes.test_workers import Several
from toolchain.accuracy import running
from toolchain.accuracy.gate import Requirement
from toolchain.accuracy.running import calls_of
from toolchain.conversion import fitting
from toolchain.conversion.given import Given
from toolchain.conversion.goal import Goal
from toolchain.conversion.precisions import Int8Static
from toolchain.conversion.proof import Proven
from toolchain.conversion.sharded import calls_in, fold_by, runs_of
from toolchain.conversion.trial import Trial
from toolchain.errors import BadUsage, NnxError, NotAvailable
from toolchain.inputs import metric_names
from toolchain.inputs.samples import Samples
from toolchain.processes import ray_cluster
from toolchain.processes.workers import HERE, Shared, Workers

pytest.importorskip("ray", reason="Ray is not installed: pip install 'nnx-toolchain[ray]'")

INT8 = targets.named("x86-vnni")
WIDTH, LAYERS = 24, 14
JUDGED = 600  # more calls than a proof must have to be done in parts


@pytest.fixture(scope="module")
def two() -> Iterator[Workers]:
    with ray_cluster.joined("auto", cores=2) as workers:
        assert workers.count == 2
        yield workers


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many layers that a search has to look at many sets."""
    random_numbers = np.random.default_rng(0)
    lines = [f"[layer{n}] h{n} = MatMul (a{n}, w{n})  [relu{n}] a{n + 1} = Relu (h{n})" for n in range(LAYERS)]
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 20]>
        deep (float[n, {WIDTH}] a0) => (float[n, {WIDTH}] y) {{ {" ".join(lines)} [last] y = MatMul (a{LAYERS}, w0)
        }}"""
    )
    for number in range(LAYERS):
        weight = random_numbers.normal(size=(WIDTH, WIDTH)) * np.sqrt(2 / WIDTH)
        model.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), f"w{number}"))
    path = tmp_path_factory.mktemp("deep") / "deep.onnx"
    onnx_file.save(model, path)
    return path


def samples(count: int, seed: int, **more: object) -> Samples:
    values = np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)
    return Samples(inputs={"a0": values}, labels=None, source=f"seed {seed}", **more)  # type: ignore[arg-type]


def searched(deep: Path, folder: Path, workers: Workers, **goal: object) -> Proven:
    wanted: dict[str, object] = {"requirement": Requirement(min_sqnr_db=24.0), "budget_s": 600.0}
    return fitting.convert(
        ModelFile(deep), folder / "made.onnx",
        Int8Static(int8=INT8, options=StaticOptions(method="minmax"), use_cache=False),
        given=lambda *_: Given(calibration=samples(512, 1), judged_on=samples(JUDGED, 2)),
        goal=Goal(**wanted | goal), workers=workers,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture(scope="module")
def expected(deep: Path, tmp_path_factory: pytest.TempPathFactory) -> Proven:
    made = searched(deep, tmp_path_factory.mktemp("here"), HERE)
    assert made.plan is not None
    assert made.plan.evaluations > 8
    assert 0 < len(made.plan.exclude) < LAYERS
    return made


def test_the_plan_and_the_file_are_those_of_one_process(
    deep: Path, two: Workers, expected: Proven, tmp_path: Path
) -> None:
    made = searched(deep, tmp_path, two)
    assert made.plan == expected.plan
    assert made.artifact.sha256 == expected.artifact.sha256
    assert [each.name for each in tmp_path.iterdir()] == ["made.onnx"]  # no journal is left


def test_so_it_is_with_a_budget_of_trials(deep: Path, two: Workers, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "ray").mkdir()
    one, other = (
        searched(deep, tmp_path / name, workers, trials=14) for name, workers in (("here", HERE), ("ray", two))
    )
    assert one.plan == other.plan
    assert one.plan is not None
    assert not one.plan.finished
    assert one.plan.evaluations == 14
    journals = [(tmp_path / name / "made.onnx.search.json").read_bytes() for name in ("here", "ray")]
    assert journals[0] == journals[1]


@pytest.mark.parametrize(("pieces", "runs"), [(1, 1), (2, 2), (5, 20)])
def test_it_matters_to_nobody_how_many_run_a_version(
    pieces: int, runs: int, deep: Path, expected: Proven, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def divide(trial: Trial, making_s: float, running_s: float) -> None:
        trial._pieces = pieces

    monkeypatch.setattr(Trial, "_divide", divide)
    workers = Several(5)
    made = searched(deep, tmp_path, workers)
    assert made.plan == expected.plan
    assert made.artifact.sha256 == expected.artifact.sha256
    asked = [each[1] for each in workers.asked if isinstance(each, tuple) and not isinstance(each[1], slice)]
    wanted = runs_of(samples(JUDGED, 2).inputs, ModelFile(deep).batch_axes, runs)
    assert set(asked) == ({None} if runs == 1 else set(wanted))


@pytest.mark.parametrize("least_db", [24.0, 150.0], ids=["found", "nothing found"])
def test_one_makes_a_version_once_for_all_its_parts(
    least_db: float, deep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[object, object]] = []
    tried = Trial._tried

    def counted(trial: Trial, asked: Any, make: Any) -> Any:
        made.append((asked.excluded, asked.methods))
        return tried(trial, asked, make)

    monkeypatch.setattr(Trial, "_tried", counted)
    monkeypatch.setattr(Trial, "_divide", lambda trial, *_: setattr(trial, "_pieces", 5))
    workers = Several(5)
    with contextlib.nullcontext() if least_db < 100 else pytest.raises(NnxError):
        searched(deep, tmp_path, workers, requirement=Requirement(min_sqnr_db=least_db))
    assert len(workers.asked) > 3 * len(made)
    assert all(one != other for one, other in itertools.pairwise(made))


@pytest.mark.parametrize("count", [40, 43])
def test_whole_calls_of_a_fixed_batch_are_run_whoever_runs_them(count: int, tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> net (float[8,4] x) => (float[8,4] y) { y = Relu (x) }'
    )
    onnx_file.save(model, tmp_path / "net.onnx")
    file = ModelFile(tmp_path / "net.onnx")
    values = np.random.default_rng(0).normal(size=(count, 8, 4)).astype(np.float32)
    given = Samples(inputs={"x": values}, labels=None, source="whole calls", layout=file.batch_axes)
    for shards in (2, 8):
        runs = runs_of(given.inputs, file.batch_axes, shards)
        with contextlib.closing(running.opened(file)) as runtime:
            found = [call["y"] for run in runs for call in calls_in(run, runtime, given, file.batch_axes)]
        assert np.array_equal(found, np.maximum(values, 0))


@pytest.mark.parametrize("count", [1, 7, 500])
def test_ranges_are_equal_to_the_bit(count: int, deep: Path, two: Workers) -> None:
    one, other = (
        StaticInt8(ModelFile(deep), samples=samples(count, 3).inputs, int8=INT8, fold=fold_by(workers)).statistics
        for workers in (HERE, two)
    )
    assert one.seen.keys() == other.seen.keys()
    for name, seen in one.seen.items():
        found = other.seen[name]
        assert (seen.exponent, seen.lowest, seen.highest) == (found.exponent, found.lowest, found.highest)
        assert np.array_equal(seen.counts, found.counts)
    assert one.ranges() == other.ranges()


def kill_one(drawn: random.Random) -> bool:
    """Kill a worker of the cluster that this process started, as the kernel does where memory is short."""
    children: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat, names[int(entry.name)] = (entry / "stat").read_text(), (entry / "cmdline").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    pending, found = [os.getpid()], []
    while pending:
        for child in children.get(pending.pop(), []):
            pending.append(child)
            if names.get(child, "").startswith("ray::") and "Agent" not in names[child]:
                found.append(child)
    drawn.shuffle(found)
    for each in found:
        with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
            os.kill(each, signal.SIGKILL)
            return True
    return False


@pytest.mark.parametrize(
    "seeds", [range(2), pytest.param(range(2, 22), marks=pytest.mark.sweep)], ids=["2 kills", "20 kills"]
)
def test_a_killed_worker_is_made_up_for(
    seeds: range, deep: Path, two: Workers, expected: Proven, tmp_path: Path
) -> None:
    for seed in seeds:
        drawn = random.Random(seed)
        began, killed = time.monotonic(), threading.Event()

        def kill(drawn: random.Random = drawn, killed: threading.Event = killed) -> None:
            time.sleep(drawn.uniform(0.0, 3.0))
            if kill_one(drawn):
                killed.set()

        killer = threading.Thread(target=kill)
        killer.start()
        made = searched(deep, tmp_path, two)
        killer.join()
        assert killed.is_set(), f"nothing was killed in {time.monotonic() - began:.1f} s"
        assert made.plan == expected.plan
        assert made.artifact.sha256 == expected.artifact.sha256


def crash(shared: Shared[None], question: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return question


def refuse(shared: Shared[None], question: int) -> int:
    raise BadUsage(f"{question} is too much.", "Ask for less.")


def test_work_that_kills_every_worker_ends_with_a_sentence(two: Workers) -> None:
    with pytest.raises(NotAvailable, match="was lost 6 times at the same work") as caught:
        two.ask(crash, two.share(None), 1).result()
    assert "ray status" in caught.value.do


def test_an_error_of_ours_arrives_as_it_was_raised(two: Workers) -> None:
    with pytest.raises(BadUsage, match="7 is too much") as caught:
        two.ask(refuse, two.share(None), 7).result()
    assert caught.value.do == "Ask for less."


def test_a_metric_of_the_users_goes_along(deep: Path, two: Workers, tmp_path: Path) -> None:
    (tmp_path / "scale.py").write_text("FACTOR = -1.0\n", encoding="utf-8")
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nimport scale\n\n"
        "def score(outputs, targets):\n    return scale.FACTOR * np.abs(outputs - targets).mean(axis=1)\n",
        encoding="utf-8",
    )
    judged = samples(600, 2)
    right = ModelFile(deep)
    answers = np.concatenate([call["y"] for call in calls_of(right, judged.inputs, right.batch_axes)])
    given = Given(calibration=samples(512, 1), judged_on=Samples(inputs=judged.inputs, labels=answers, source="judged"))
    outcomes = list[str]()
    for name, workers in (("here", HERE), ("ray", two)):
        dst = tmp_path / name / "made.onnx"
        dst.parent.mkdir()
        goal = Goal(
            requirement=Requirement(max_drop=0.04), metric=metric_names.of(f"{tmp_path / 'mine.py'}:score"),
            budget_s=600.0, trials=5,
        )  # fmt: skip
        options = StaticOptions(method="minmax")
        try:
            int8 = Int8Static(int8=INT8, options=options, use_cache=False)
            made = fitting.convert(right, dst, int8, given=lambda *_: given, goal=goal, workers=workers)
            outcomes.append(f"{made.plan}")
        except NnxError as failed:
            outcomes.append(failed.what)
    assert outcomes[0] == outcomes[1]
    assert "drop in score" in outcomes[0]

"""Every record comes back from its JSON as it was, and its schema tells all of it."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from exporters.calibration.thresholds import METHODS
from runtimes.node_time import Unfused
from toolchain import records
from toolchain.ablation import record as ablation
from toolchain.accuracy.gate import Verdict
from toolchain.accuracy.status import Status
from toolchain.bench import record as bench
from toolchain.conversion import record as conversion
from toolchain.errors import BadUsage
from toolchain.layers import record as layers
from toolchain.stats import Interval
from toolchain.training import record as training

COUNTS = st.integers(1, 10**6)
SIZES = st.integers(0, 2**40)
POSITIVE = st.floats(0, 1e6)
SHARES = st.floats(0, 1)
FLOATS = st.floats(-1e6, 1e6)
TEXTS = st.text(max_size=5)
FACTS = st.dictionaries(TEXTS, TEXTS, max_size=2)
LISTED = {"max_size": 3}


def tuples(of: st.SearchStrategy[Any], *, min_size: int = 0, max_size: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, min_size=min_size, max_size=max_size).map(tuple)


INTERVALS = st.builds(
    Interval, estimate=FLOATS, low=FLOATS | st.just(-math.inf), high=FLOATS | st.just(math.inf)
)  # fmt: skip
TRAININGS = st.builds(
    training.History,
    options=st.fixed_dictionaries({"device": st.sampled_from(["cpu", "cuda"])}, optional={"epochs": COUNTS}),
    epochs=tuples(
        st.builds(
            training.Epoch, number=COUNTS, loss=POSITIVE | st.just(math.inf), train_score=SHARES,
            validation_score=SHARES, seconds=POSITIVE, samples_per_s=POSITIVE,
        )
    ),
)  # fmt: skip
ABLATIONS = st.builds(
    ablation.Ablation,
    recipe=TEXTS,
    options=FACTS,
    machine=FACTS,
    variants=tuples(
        st.builds(
            ablation.Variant, name=TEXTS, switched_on=tuples(TEXTS), epochs=COUNTS, validation_score=SHARES,
            steps_ms=tuples(tuples(POSITIVE, min_size=1), min_size=1), parts_s=tuples(POSITIVE), first_step_s=POSITIVE,
            step_gain=st.none() | INTERVALS, epoch_gain=st.none() | INTERVALS,
        )
    ),
    dropped=FACTS,
)  # fmt: skip
EXPLANATIONS = st.builds(
    layers.Explanation, model=TEXTS, precision=TEXTS, reference=st.none() | TEXTS, samples=TEXTS, batch=COUNTS,
    threads=COUNTS, machine=FACTS, run_us=POSITIVE, conversion_share=SHARES, advice=tuples(TEXTS),
    layers=tuples(
        st.builds(
            layers.ExplainedLayer, name=TEXTS, op_type=TEXTS, output=TEXTS, precision=TEXTS, weight_bytes=SIZES,
            own_sqnr_db=st.none() | FLOATS, accumulated_sqnr_db=st.none() | FLOATS, noise_share=st.none() | SHARES,
            runs_as=TEXTS, mean_us=POSITIVE, time_share=SHARES, fused_into=st.none() | TEXTS,
        )
    ),
    unfused=tuples(
        st.builds(Unfused, name=TEXTS, op_type=TEXTS, mean_us=POSITIVE, share=SHARES, why=TEXTS)
    ),
)  # fmt: skip
PROFILES = st.builds(
    bench.Profile, run_us=POSITIVE, op_types=st.dictionaries(TEXTS, POSITIVE, max_size=2), copies=SIZES, casts=SIZES,
    advice=TEXTS,
    nodes=tuples(
        st.builds(
            bench.NodeShare, name=TEXTS, op_type=TEXTS, provider=TEXTS, precision=TEXTS, mean_us=POSITIVE, share=SHARES
        )
    ),
    unfused=tuples(st.builds(bench.Unfused, name=TEXTS, op_type=TEXTS, share=SHARES, why=TEXTS)),
)  # fmt: skip
MILLISECONDS = st.integers(1, 10**6).map(lambda micros: micros / 1e3)
ROUNDS = st.lists(st.tuples(tuples(MILLISECONDS, min_size=1), st.floats(1e-3, 1e3), COUNTS), max_size=2).map(
    lambda rounds: {
        name: tuple(each[at] for each in rounds) for at, name in enumerate(("rounds_ms", "rounds_s", "rounds_runs"))
    }
)


@st.composite
def rows(draw: st.DrawFn) -> bench.Row:
    candidate = bench.Candidate(
        label=draw(TEXTS), runtime="ort", precision="fp32", model="m.onnx", sha256="ab" * 32, size_bytes=draw(SIZES),
        weights=draw(st.none() | TEXTS),
    )  # fmt: skip
    setting = bench.Setting(
        provider="cpu", batch=draw(COUNTS), threads=draw(COUNTS), options=tuple(draw(FACTS).items()),
        cpus=draw(tuples(SIZES)), python=draw(st.none() | TEXTS),
    )  # fmt: skip
    figures = st.fixed_dictionaries(
        {},
        optional={
            "repeats": st.booleans(), "load_ms": POSITIVE, "first_run_ms": POSITIVE, "baseline": TEXTS,
            "speedup": INTERVALS, "accuracy": INTERVALS, "drop": INTERVALS, "parity": TEXTS,
            "peak_memory_bytes": SIZES, "device_memory_bytes": SIZES, "facts": FACTS, "profile": PROFILES,
            "nodes": st.dictionaries(TEXTS, SIZES, max_size=2),
        },
    )  # fmt: skip
    measured: dict[str, Any] = {**draw(figures), **draw(ROUNDS)}
    return bench.Row(candidate=candidate, setting=setting, reason=draw(TEXTS), **measured)


MACHINE = {
    "system": "Linux", "architecture": "x86_64", "processor": "", "cores": 2, "memory_bytes": 0, "isa": [], "gpu": None,
    "python": "3.11", "libraries": {},
}  # fmt: skip
BENCHMARKS = st.builds(
    bench.Benchmark, machine=st.just(MACHINE), created=st.just("2026-01-02T03:04:05Z"), data=TEXTS, rows=tuples(rows()),
    command=tuples(TEXTS), effort=st.dictionaries(TEXTS, POSITIVE | st.just(math.inf), max_size=2),
    warnings=tuples(TEXTS), complete=st.booleans(),
)  # fmt: skip


PLANS = st.builds(
    conversion.Plan, exclude=tuples(TEXTS), verdict=TEXTS, evaluations=SIZES, finished=st.booleans(),
    methods=st.dictionaries(TEXTS, st.sampled_from(METHODS), max_size=2), options=FACTS,
)  # fmt: skip
EXTREMES = st.sampled_from([math.inf, -math.inf])
ENDLESS = st.builds(Interval, estimate=FLOATS | EXTREMES, low=FLOATS | EXTREMES, high=FLOATS | EXTREMES)
VERDICTS = st.builds(
    Verdict, status=st.sampled_from(Status), text=TEXTS, samples=COUNTS, drop=st.none() | INTERVALS,
    sqnr_db=st.none() | ENDLESS, cosine=st.none() | INTERVALS, samples_needed=st.none() | COUNTS,
)  # fmt: skip
JOURNALS = st.builds(
    conversion.Journal,
    key=TEXTS,
    trials=tuples(st.builds(conversion.Trial, excluded=tuples(TEXTS), verdict=VERDICTS)),
)


@given(JOURNALS)
def test_a_journal_survives_with_its_infinities(journal: conversion.Journal) -> None:
    assert conversion.Journal.from_json(journal.to_json()) == journal


@given(PLANS | TRAININGS | ABLATIONS | EXPLANATIONS | BENCHMARKS)
def test_a_record_survives_its_json(record: Any) -> None:
    text = record.to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert type(record).from_json(text) == record
    assert type(record).from_json(text.encode()) == record


COMPUTED = {"schema_version", "kind", "step_ms", "epoch_s", "latency_ms", "throughput_per_s"}
LATER = {"processes", "skipped", "shapes", "metric", "measure", "restarted_after"}
"""What files of the same schema version lack that an earlier nnx wrote."""
HAND_WRITTEN = ("verdict", "evaluations", "finished", "methods", "options")
FORMS: dict[records.Form, dict[str, Any]] = {
    training.FORM: {"": training.History, "epoch": training.Epoch},
    ablation.FORM: {"": ablation.Ablation, "variant": ablation.Variant, "interval": Interval},
    conversion.PLAN_FORM: {"": conversion.Plan},
    conversion.JOURNAL_FORM: {
        "": conversion.Journal,
        "trial": conversion.Trial,
        "verdict": Verdict,
        "interval": Interval,
    },
    layers.FORM: {"": layers.Explanation, "layer": layers.ExplainedLayer, "unfused": Unfused},
}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.schema)
def test_a_schema_names_every_field_and_describes_it(form: records.Form) -> None:
    schema = json.loads(form.schema_text())
    Draft202012Validator.check_schema(schema)
    for name, kind in FORMS[form].items():
        described = schema["$defs"][name] if name else schema
        assert set(described["properties"]) - COMPUTED == {each.name for each in fields(kind)}
        optional = set(HAND_WRITTEN) if kind is conversion.Plan else LATER
        assert set(described["required"]) == set(described["properties"]) - optional
        assert described["description"].endswith(".")
        assert all(each["description"].endswith(".") for each in described["properties"].values())


def test_what_an_earlier_nnx_wrote_of_a_training_is_read() -> None:
    former = json.loads(HISTORY.to_json())
    del former["measure"], former["restarted_after"], former["processes"], former["skipped"]
    for epoch in former["epochs"]:
        epoch["train_accuracy"], epoch["validation_accuracy"] = epoch.pop("train_score"), epoch.pop("validation_score")
    assert training.History.from_json(json.dumps(former)) == HISTORY
    loops = json.loads(ABLATION.to_json())
    del loops["measure"]
    for loop in loops["variants"]:
        loop["validation_accuracy"] = loop.pop("validation_score")
    assert ablation.Ablation.from_json(json.dumps(loops)) == ABLATION


def test_the_schemas_know_every_method_and_status() -> None:
    plan, journal = (json.loads(form.schema_text()) for form in (conversion.PLAN_FORM, conversion.JOURNAL_FORM))
    assert plan["properties"]["methods"]["additionalProperties"]["enum"] == list(METHODS)
    assert set(journal["$defs"]["verdict"]["properties"]["status"]["enum"]) == set(Status)
    assert set(json.loads(bench.schema())["$defs"]["row"]["properties"]["status"]["enum"]) == set(Status)


def changed(record: Any, path: tuple[str | int, ...], value: Any) -> str:
    content = json.loads(record.to_json())
    place = content
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(content)


EPOCH = training.Epoch(
    number=1, loss=2.0, train_score=0.5, validation_score=0.25, seconds=1.5, samples_per_s=100.0
)  # fmt: skip
HISTORY = training.History(options={"device": "cpu"}, epochs=(EPOCH,))
VARIANT = ablation.Variant(
    name="plain", switched_on=(), steps_ms=((1.0, 3.0),), parts_s=(2.0,), epochs=1, validation_score=0.5,
    first_step_s=1.0, step_gain=Interval(1.0, 0.0, math.inf), epoch_gain=Interval(1.0, 1.0, 1.0),
)  # fmt: skip
ABLATION = ablation.Ablation(recipe="tiny", options={}, machine={}, variants=(VARIANT,), dropped={"amp": "none"})
EXPLANATION = layers.Explanation(
    model="m.onnx", precision="int8-static", reference=None, samples="seeded", batch=1, threads=1, machine={},
    layers=(layers.ExplainedLayer(name="a", op_type="Conv", output="a", precision="int8", weight_bytes=4),),
    run_us=10.0, conversion_share=0.0, unfused=(), advice=(),
)  # fmt: skip


@pytest.mark.parametrize(
    ("record", "path", "value", "sentence"),
    [
        (HISTORY, ("epochs", 0, "number"), 1.0, "The file is not what `nnx train` writes: epochs[0].number is 1.0."),
        (HISTORY, ("epochs", 0, "seconds"), True, "`nnx train` writes: epochs[0].seconds is true."),
        (HISTORY, ("options",), {}, "`nnx train` writes: options.device is missing."),
        (ABLATION, ("variants", 0, "epochs"), None, "`nnx train --ablate` writes: variants[0].epochs is null."),
        (ABLATION, ("schema_version",), 2, "The file has schema version 2, this nnx reads 1."),
        (EXPLANATION, ("layers", 0, "own_sqnr_db"), "x", '`nnx explain --json` writes: layers[0].own_sqnr_db is "x".'),
        (EXPLANATION, ("run_us",), math.nan, "`nnx explain --json` writes: it holds NaN."),
        (EXPLANATION, ("run_us",), math.inf, "`nnx explain --json` writes: it holds Infinity."),
    ],
)
def test_what_is_wrong_is_named(record: Any, path: tuple[str | int, ...], value: Any, sentence: str) -> None:
    with pytest.raises(BadUsage) as caught:
        type(record).from_json(changed(record, path, value))
    assert caught.value.what.endswith(sentence)


@pytest.mark.parametrize("kind", [training.History, ablation.Ablation, layers.Explanation])
@pytest.mark.parametrize("text", ["", "[]", "{}", "7", "null", "[" * 10**5, b"\xff\xfe\x00"])
def test_what_is_no_record_is_said(kind: Any, text: str | bytes) -> None:
    with pytest.raises(BadUsage, match="The file is not what"):
        kind.from_json(text)


def test_what_a_later_nnx_adds_is_left_out() -> None:
    assert training.History.from_json(changed(HISTORY, ("epochs", 0, "mood"), "good")) == HISTORY
    assert layers.Explanation.from_json(changed(EXPLANATION, ("mood",), "good")) == EXPLANATION


def test_infinities_that_an_earlier_nnx_wrote_are_read() -> None:
    """Python's JSON has a word for them, which no other reader knows."""
    text = ABLATION.to_json().replace('"high": null', '"high": Infinity')
    assert "Infinity" in text
    assert ablation.Ablation.from_json(text) == ABLATION
    with pytest.raises(BadUsage, match="holds NaN"):
        ablation.Ablation.from_json(text.replace("Infinity", "NaN"))


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    size: float
    colour: Colour = Colour.RED


@dataclass(frozen=True)
class Outer:
    inner: Inner | None
    pairs: tuple[tuple[str, int], ...] = ()
    many: Mapping[str, tuple[Inner, ...]] | None = None


def test_a_record_is_made_by_its_type_hints() -> None:
    content = {"inner": {"size": None}, "pairs": {"a": 1}, "many": {"x": [{"size": 2, "colour": "red"}]}, "other": 1}
    assert records.made(Outer, content) == Outer(Inner(math.inf), (("a", 1),), {"x": (Inner(2.0),)})
    assert records.made(Outer, {"inner": None}) == Outer(None)


@pytest.mark.parametrize("hint", [Path, str | Path, Union[str, Path], Callable[[], int]])  # noqa: UP007 - both spellings
def test_a_type_that_json_does_not_have_is_refused(hint: Any) -> None:
    @dataclass
    class Odd:
        field: Any

    Odd.__annotations__["field"] = hint
    with pytest.raises(TypeError, match="JSON"):
        records.made(Odd, {"field": 1})


def test_numbers_and_names_in_one_list_are_told_apart() -> None:
    @dataclass
    class Shaped:
        shape: tuple[int | str, ...]

    assert records.made(Shaped, {"shape": ["N", 3]}) == Shaped(("N", 3))

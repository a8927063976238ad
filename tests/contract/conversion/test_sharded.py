"""Calibration in shards: the same as in one go, to the bit, whoever did which part and whenever it was merged."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.calibration import activations, taps
from exporters.calibration.histogram import Histogram
from exporters.model_file import ModelFile
from tests.contract.tiny_models import MODELS
from tests.unit.processes.test_workers import Several
from toolchain.conversion.sharded import borders, fold_by

Exported = Callable[[str], Path]


def same(one: dict[str, Histogram], other: dict[str, Histogram]) -> bool:
    return list(one) == list(other) and all(
        (a.exponent, a.lowest, a.highest, a.boundless) == (b.exponent, b.lowest, b.highest, b.boundless)
        and np.array_equal(a.counts, b.counts)
        for a, b in zip(one.values(), other.values(), strict=True)
    )


def asked_of(name: str, exported: Exported) -> tuple[onnx.ModelProto, dict[str, np.ndarray], tuple[str, ...]]:
    model = onnx.shape_inference.infer_shapes(ModelFile(exported(name)).proto)
    return model, dict(MODELS[name].samples(300)), taps.of(model).measured


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("memory_budget", [1, 10**9])
def test_any_number_of_workers_sees_the_same(name: str, memory_budget: int, exported: Exported) -> None:
    model, samples, tensors = asked_of(name, exported)
    told: list[int] = []
    expected = activations.fold(model, samples, tensors=tensors, make=Histogram, memory_budget=memory_budget)
    for count in (2, 3, 50):
        told.clear()
        found = fold_by(Several(count))(
            model, samples, tensors=tensors, make=Histogram, memory_budget=memory_budget, advance=told.append
        )
        assert same(found, expected)
        assert sum(told) == 300


@pytest.mark.parametrize("seed", range(20))
def test_the_parts_may_be_divided_and_merged_in_any_way(seed: int, exported: Exported) -> None:
    model, samples, tensors = asked_of("residual", exported)
    expected = activations.fold(model, samples, tensors=tensors, make=Histogram)
    drawn = random.Random(seed)
    work = activations.planned(model, samples, tensors=tensors, make=Histogram)
    (one,) = work.passes
    session = work.session(one)
    shards: list[list[range]] = [[] for _ in range(drawn.randint(1, 7))]
    for part in drawn.sample(one.parts, len(one.parts)):
        drawn.choice(shards).append(part)
    found = [work.done(one, shard, session) for shard in shards]
    drawn.shuffle(found)
    assert same(work.merged(one, found), expected)


@given(st.integers(0, 200), st.integers(1, 50))
def test_shards_cover_all_once_and_are_of_one_length(count: int, shards: int) -> None:
    found = list(borders(count, shards))
    assert [number for each in found for number in range(count)[each]] == list(range(count))
    lengths = [len(range(count)[each]) for each in found]
    assert max(lengths) - min(lengths) <= 1
    assert len(found) == max(1, min(count, shards))

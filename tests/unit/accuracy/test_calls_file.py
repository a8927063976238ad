"""What a row saves of its calls is what the judge reads: arrays of any rank and type, sequences, maps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from toolchain.accuracy import calls_file

ARRAYS = st.one_of(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)),
    hnp.arrays(np.int64, hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)),
    hnp.arrays(np.bool_, (2,)),
    hnp.arrays("U3", (2,), elements=st.text("abé ", max_size=3)),
)
MAPS = st.dictionaries(st.one_of(st.integers(), st.text(max_size=3)), st.floats(width=32), min_size=1, max_size=3)
VALUES = st.one_of(ARRAYS, MAPS, st.none(), st.lists(ARRAYS, max_size=3), st.lists(MAPS, max_size=3))
CALLS = st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), max_size=3)


def same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert list(one) == list(other)
        one, other = list(one.values()), list(other.values())
    if isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            same(*pair)
    elif one is None:
        assert other is None
    else:
        assert np.asarray(one).dtype.kind == np.asarray(other).dtype.kind
        np.testing.assert_array_equal(one, other)


@settings(max_examples=60)
@given(calls=CALLS)
def test_calls_come_back_as_they_were(calls: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("outputs") / "outputs.npz"
    calls_file.write(path, calls)
    same(calls, calls_file.read(path))


def test_texts_of_onnxruntime_need_no_pickle(tmp_path: Path) -> None:
    path = tmp_path / "outputs.npz"
    calls_file.write(path, [{"label": np.array(["cat", "a horse"], object)}])
    assert calls_file.read(path)[0]["label"].tolist() == ["cat", "a horse"]


def test_maps_of_many_samples_are_one_array(tmp_path: Path) -> None:
    path = tmp_path / "outputs.npz"
    calls_file.write(path, [{"p": [{0: 0.25, 1: 0.75}] * 1000}])
    with np.load(path) as members:
        assert len(members.files) == 2
    assert calls_file.read(path)[0]["p"][999] == {0: 0.25, 1: 0.75}

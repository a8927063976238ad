"""What is written of golden values is what a runner reads, whatever their types and shapes."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runtimes.base import FEEDABLE
from tests.contract.shipping.conftest import runner_of
from toolchain.errors import BadUsage
from toolchain.shipping.golden import Cases, written
from toolchain.shipping.tolerance import Answers, Tolerance

Array = npt.NDArray[Any]
ARRAYS = st.sampled_from(sorted(FEEDABLE)).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


@pytest.fixture(scope="session")
def runner(_packed_once: Path) -> ModuleType:
    return runner_of(_packed_once, "package")


def put(inputs: list[Array], outputs: list[Array]) -> tuple[str, bytes]:
    tolerance = Tolerance(absolute=1e-6, relative=0.0, why="told")
    answers = Answers(outputs=[{f"y{n}": each for n, each in enumerate(outputs)}], tolerances={"y0": tolerance})
    call = {f"x{n}": each for n, each in enumerate(inputs)}
    return written(Cases([call], 1, [None]), {"fp32": answers})


@settings(max_examples=200)
@given(inputs=st.lists(ARRAYS, max_size=4), outputs=st.lists(ARRAYS, min_size=1, max_size=4))
def test_arrays_come_back_as_they_were(runner: ModuleType, inputs: list[Array], outputs: list[Array]) -> None:
    described, content = put(inputs, outputs)
    (case,) = json.loads(described)["cases"]
    entries = [*case["inputs"], *case["outputs"]["fp32"]]
    assert all(entry["offset"] % 8 == 0 for entry in entries)
    for entry, array in zip(entries, [*inputs, *outputs], strict=True):
        (found,) = runner.arrays([entry], content).values()
        assert (found.dtype, found.shape, entry["bytes"]) == (array.dtype, array.shape, array.nbytes)
        np.testing.assert_array_equal(found, array)


@given(inputs=st.lists(ARRAYS, max_size=3), outputs=st.lists(ARRAYS, min_size=1, max_size=3))
def test_the_same_values_give_the_same_bytes_however_they_lie_in_memory(
    inputs: list[Array], outputs: list[Array]
) -> None:
    first = put(inputs, outputs)
    turned = [np.array(each, order="F") for each in inputs]
    swapped = [each.astype(each.dtype.newbyteorder(">")) for each in outputs]
    assert put(turned, outputs) == first
    assert put(inputs, swapped) == first


@pytest.mark.parametrize("value", [np.array(["a"]), np.array([1j]), [1.0], {"a": 1.0}, None])
def test_what_is_no_array_of_numbers_is_refused(value: Any) -> None:
    with pytest.raises(BadUsage, match="golden values are arrays of numbers"):
        put([value], [np.zeros(1, np.float32)])

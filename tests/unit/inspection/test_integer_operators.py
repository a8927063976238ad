"""The table of integer operators says what their own schemas say."""

import re

import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

from toolchain.inspection.integer_operators import INTEGER_OPERATORS

SCHEMAS = {each.name: each for each in get_all_operator_schema() if each.domain in ("", "com.microsoft")}


@pytest.mark.parametrize("name", INTEGER_OPERATORS)
def test_scales_and_zero_points_stand_where_the_schema_has_them(name: str) -> None:
    inputs = [each.name.lower() for each in SCHEMAS[name].inputs]
    about = {at for at, each in enumerate(inputs) if re.search(r"scale|zero|(^|_)zp|g_idx", each)}
    row = INTEGER_OPERATORS[name]
    assert set(row.scales) == about
    assert len(row.scales) == len(about)
    assert not about & set(row.reads)
    assert [inputs[at] for at in row.bias] in ([], ["b"], ["c"])


@pytest.mark.parametrize("name", INTEGER_OPERATORS)
def test_what_is_told_of_the_weight_and_of_the_result_goes_with_them(name: str) -> None:
    inputs = [each.name.lower() for each in SCHEMAS[name].inputs]
    row = INTEGER_OPERATORS[name]
    weight = inputs[row.reads[row.place]] if row.weight else ""
    assert all(inputs[at].startswith(weight) for at in row.weight if not row.blocks)
    assert all(re.match(r"y|c_", inputs[at]) for at in row.result)

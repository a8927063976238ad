from pathlib import Path

import numpy as np
import pytest

from toolchain.accuracy.metrics.built_in import BUILT_IN
from toolchain.errors import BadUsage
from toolchain.inputs import metric_names

CODE = """
import numpy as np
from neighbour import scale
from toolchain.accuracy.metrics.metric import Metric, means

def off(outputs, targets):
    return np.abs(outputs - targets).sum(1) * scale
off.higher_is_better = False

def good(outputs, targets):
    return float(np.mean(outputs == targets))

OWN = Metric(name="own", title="own", higher_is_better=False, rows=off, scorer=means)
NOTHING = 3
"""


@pytest.fixture
def code(tmp_path: Path) -> str:
    (tmp_path / "neighbour.py").write_text("scale = 2\n")
    (tmp_path / "my_metric.py").write_text(CODE)
    return str(tmp_path / "my_metric.py")


@pytest.mark.parametrize("name", list(BUILT_IN))
def test_those_that_come_with_nnx(name: str) -> None:
    found = metric_names.of(name)
    assert found.name == name
    assert found.higher_is_better == (name not in {"mae", "rmse", "wer"})


def test_a_function_in_a_file_that_imports_its_neighbour(code: str) -> None:
    found = metric_names.of(f"{code}:off")
    assert found.of(np.ones((4, 2)), np.zeros((4, 2))) == 4
    assert not found.higher_is_better
    assert found.title == "off"


def test_the_digest_is_of_its_code_and_of_what_it_imports(code: str) -> None:
    first = metric_names.of(f"{code}:good").code
    assert metric_names.of(f"{code}:good").code == first
    Path(code).with_name("neighbour.py").write_text("scale = 3\n")
    assert metric_names.of(f"{code}:good").code != first


def test_which_way_is_better_can_be_said(code: str) -> None:
    assert metric_names.of(f"{code}:good").higher_is_better
    assert not metric_names.of(f"{code}:good", lower_is_better=True).higher_is_better
    assert metric_names.of(f"{code}:OWN").name == "own"
    with pytest.raises(BadUsage, match="Of top1 more is better"):
        metric_names.of("top1", lower_is_better=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [("top2", "There is no metric 'top2'"), ("{}:NOTHING", "is a int"), ("{}:absent", "has no 'absent'")],
)
def test_what_is_no_metric(name: str, message: str, code: str) -> None:
    with pytest.raises(BadUsage, match=message):
        metric_names.of(name.format(code))

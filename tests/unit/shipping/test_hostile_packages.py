"""A few of the packages that `make hostile-packages` breaks: our exit codes, no traceback, nothing written outside."""

import pytest

from benchmarks.hard import hostile_packages
from benchmarks.hard.verdicts import Kind


@pytest.mark.parametrize("seed", range(12))
def test_a_broken_package_is_refused_or_right(seed: int) -> None:
    # a machine with other work gives a test one twentieth of a core, and imports take their time
    for verdict in hostile_packages.of_seed(seed, seconds=120):
        assert verdict.kind in (Kind.RIGHT, Kind.REFUSED), f"{verdict.name}: {verdict.why}"

"""What ranges follow from what was seen, whoever asked before."""

import itertools

import numpy as np

from exporters.calibration.histogram import Histogram
from exporters.calibration.statistics import Statistics
from exporters.calibration.taps import Taps
from exporters.calibration.thresholds import METHODS, range_of


def test_each_question_gets_its_own_range_in_whatever_order_they_come() -> None:
    histogram = Histogram()
    histogram.add(np.random.default_rng(0).standard_t(2, size=(4, 4096)).astype(np.float32))
    statistics = Statistics({"x": histogram}, Taps(measured=("x",), same_as={"y": "x"}, bounded=()), 4)
    asked = list(itertools.product(METHODS, (99.0, 99.99), (False, True)))
    for method, percentile, symmetric in [*asked, *asked[::-1]]:
        right = range_of(histogram, method=method, percentile=percentile, symmetric=symmetric)
        found = statistics.ranges(method=method, percentile=percentile, symmetric=symmetric)
        assert found == {"x": right, "y": right}
        own = statistics.ranges(method="minmax", methods={"x": method}, percentile=percentile, symmetric=symmetric)
        assert own == found

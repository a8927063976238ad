"""How sure a score is, and what a model loses of it against another on the same samples.

Shares of samples have Wilson's interval and Tango's; other means of one number a sample Student's; all else a bootstrap
of the samples, which draws the same ones of both models.
"""

import numpy as np

from toolchain import stats
from toolchain.accuracy.metrics.metric import Counts, Floats, Mean, Metric, Rows
from toolchain.stats import Interval


def score(metric: Metric, rows: Rows) -> Interval:
    """The score of ``rows``, with its 95 % interval; BadUsage where it is not defined."""
    scorer, count = metric.scorer(rows), len(rows)
    estimate = metric.defined(scorer(np.ones(count, np.int64)), count)
    if isinstance(scorer, Mean):
        if metric.share and _is_share(scorer.values):
            return stats.proportion(int(scorer.values.sum()), count)
        return _inside(metric, stats.mean(scorer.values))
    return _inside(metric, stats.bootstrap(scorer, count, estimate, draws=metric.draws))


def drop(metric: Metric, reference: Rows, given: Rows, level: float) -> Interval:
    """What ``given`` is worse by than ``reference``: positive is worse, whichever way is better."""
    before, after, count = metric.scorer(reference), metric.scorer(given), len(reference)
    if isinstance(before, Mean) and isinstance(after, Mean):
        if (pair := discordant(metric, reference, given)) is not None:
            return stats.paired_drop(*pair, count, level)
        losses = before.values - after.values if metric.higher_is_better else after.values - before.values
        return stats.mean(losses, level)
    ones = np.ones(count, np.int64)
    estimate = metric.loss(*(metric.defined(scorer(ones), count) for scorer in (before, after)))

    def loss(times: Counts) -> float:
        return metric.loss(before(times), after(times))

    return stats.bootstrap(loss, count, estimate, level, draws=metric.draws)


def discordant(metric: Metric, reference: Rows, given: Rows) -> tuple[int, int] | None:
    """(Samples that only the reference has right, samples that only the other has); None of what is no such share."""
    before, after = metric.scorer(reference), metric.scorer(given)
    if not (metric.share and metric.higher_is_better and isinstance(before, Mean) and isinstance(after, Mean)):
        return None
    if not (_is_share(before.values) and _is_share(after.values)):
        return None
    return int((before.values > after.values).sum()), int((after.values > before.values).sum())


def _is_share(values: Floats) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _inside(metric: Metric, found: Interval) -> Interval:
    """A share lies from 0 to 1, but for one of errors, which may be more than there was to get wrong."""
    if not metric.share:
        return found
    return Interval(
        found.estimate, max(0.0, found.low), min(1.0, found.high) if metric.higher_is_better else found.high
    )

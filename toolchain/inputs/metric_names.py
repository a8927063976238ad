"""How a user names a metric: one that comes with nnx, or a function or Metric of their own as ``file.py:NAME``."""

from toolchain.accuracy.metrics.built_in import BUILT_IN
from toolchain.accuracy.metrics.metric import Metric
from toolchain.accuracy.metrics.own import of_function
from toolchain.errors import BadUsage
from toolchain.inputs import sources


def of(name: str, *, lower_is_better: bool = False) -> Metric:
    """The metric that ``name`` stands for.

    Of a function, more is better unless ``lower_is_better``, or its attribute ``higher_is_better`` is false. Raises
    BadUsage for a name that stands for none, and for ``lower_is_better`` of a metric that knows it itself.
    """
    if name in BUILT_IN:
        return _knows_itself(BUILT_IN[name](), lower_is_better=lower_is_better)
    if not sources.is_code(name):
        raise BadUsage(
            f"There is no metric '{name}'.",
            f"Choose from {', '.join(BUILT_IN)}, or name your own function as file.py:function.",
        )
    found = sources.attribute_named(name)
    if isinstance(found, Metric):
        return _knows_itself(found, lower_is_better=lower_is_better)
    if not callable(found):
        raise BadUsage(f"{name} is a {type(found).__name__}.", "Name a function of outputs and targets.")
    higher = bool(getattr(found, "higher_is_better", True)) and not lower_is_better
    return of_function(found, name, higher_is_better=higher, code=sources.code_digest(name))


def _knows_itself(metric: Metric, *, lower_is_better: bool) -> Metric:
    if lower_is_better and metric.higher_is_better:
        raise BadUsage(f"Of {metric.name} more is better.", "Leave --lower-is-better out.")
    return metric

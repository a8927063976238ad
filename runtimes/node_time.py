"""One executed node and the time that it takes, whatever profiler measured it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

WARM_UP_RUNS = 3
"""Runs before those that a profile counts."""
CONVERSIONS = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "ReorderInput", "ReorderOutput"}
)
"""Operators that only change a number's type or layout."""
COPIES = frozenset({"MemcpyToHost", "MemcpyFromHost"})
"""Operators that only copy between devices."""
PYTHON = "Python"
"""What the time between PyTorch's operators is listed under: the interpreter's, and torch.compile's guards."""


@dataclass(frozen=True, kw_only=True)
class NodeTime:
    """One executed node: ``op_type`` after fusion, its time in a run, and its share (0 to 1) of all nodes' time.

    ``mean_us`` is the mean of the middle half of the runs: another process's turn on the core falls into the rest.
    ``precision`` is int8, int4, fp32, fp16, ..., or the type of its output where that is no floating-point number;
    empty where the backend does not tell. ``inputs`` are activations, ``constants`` are stored in the file; all three
    are empty where the graph cannot be read. ``inserted`` nodes are not in the file: the backend put them in to change
    a floating-point type.
    """

    name: str
    op_type: str
    provider: str
    precision: str
    mean_us: float
    share: float
    inputs: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    inserted: bool = False


@dataclass(frozen=True, kw_only=True)
class Unfused:
    """A node of a QDQ model that did not become part of an int8 kernel, the time it takes, and why it is listed."""

    name: str
    op_type: str
    mean_us: float
    share: float
    why: str


def is_compiled(name: str, provider: str) -> bool:
    """Whether the node is a subgraph that the provider compiled as a whole, which ONNX Runtime names after it."""
    return name.startswith(f"{provider}_")


def require_runs(runs: int) -> None:
    """Raise ValueError unless a profile is to count at least one run."""
    if runs < 1:
        raise ValueError(f"a profile needs at least one run, asked for were {runs}")


def with_shares(nodes: Sequence[NodeTime]) -> list[NodeTime]:
    """``nodes`` with each one's share of their time together; shares of 0 where they took none."""
    total = sum(node.mean_us for node in nodes) or 1.0
    return [replace(node, share=node.mean_us / total) for node in nodes]


def middle_mean(values: Sequence[float]) -> float:
    """The mean of the middle half."""
    quarter = len(values) // 4
    middle = sorted(values)[quarter : len(values) - quarter]
    return sum(middle) / len(middle)

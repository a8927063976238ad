"""The nodes of the graph that ONNX Runtime saves after its fusions, and what connects them."""

from collections import defaultdict, deque
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import onnx


@dataclass(frozen=True, kw_only=True)
class GraphNode:
    """``inputs`` are activations, ``constants`` are stored in the file; ``bits`` are those of packed weights."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    constants: tuple[str, ...]
    outputs: tuple[str, ...]
    bits: int | None


class OptimizedGraph:
    """The saved graph at ``path``, whose nodes are handed out in the order in which they run."""

    def __init__(self, path: Path) -> None:
        self._left: defaultdict[tuple[str, str], deque[GraphNode]] = defaultdict(deque)
        for node in nodes_in(path):
            self._left[node.name, node.op_type].append(node)

    def take(self, name: str, op_type: str) -> GraphNode | None:
        """The next node that the profile calls ``name``, None where there is none.

        Nodes of functions that were inlined have no name in the graph; the profile calls them by operator and number.
        """
        left = self._left[name, op_type] or self._left["", op_type]
        return left.popleft() if left else None


def nodes_in(path: Path) -> list[GraphNode]:
    """Those of the saved graph at ``path``, in the order in which they run."""
    graph = onnx.load(path, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    return [_read(node, constants) for node in graph.node]


def with_names(path: Path, folder: Path) -> Path:
    """``path``, or a copy in ``folder`` in which every node has a name of its own: the profile tells them apart by it.

    A node without one gets the name of its output."""
    model = onnx.load(path, load_external_data=False)
    names = [node.name for node in model.graph.node]
    if "" not in names and len(set(names)) == len(names):
        return path
    model = onnx.load(path)
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = next((name for name in node.output if name and name not in taken), f"{node.op_type}_{index}")
        taken.add(node.name)
    named = folder / "named.onnx"
    onnx.save(model, named)
    return named


def _read(node: onnx.NodeProto, constants: Collection[str]) -> GraphNode:
    return GraphNode(
        name=node.name,
        op_type=node.op_type,
        inputs=tuple(name for name in node.input if name and name not in constants),
        constants=tuple(name for name in node.input if name in constants),
        outputs=tuple(name for name in node.output if name),
        bits=next((attribute.i for attribute in node.attribute if attribute.name == "bits"), None),
    )

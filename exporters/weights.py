"""The weights that nodes see, in nested graphs too, and names that nobody has yet."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporters import onnx_file
from exporters.errors import BadModelFile
from exporters.large_weights import array_of, tensor_of
from exporters.operators import attributes_of

Array = npt.NDArray[Any]
CONTRIB = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""


class Names:
    """Every name in a model, of tensors, nodes, and in functions, so that what is added clashes with none of them."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._taken: set[str] = set()
        for graph in onnx_file.graphs_of(model):
            for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
                self._taken.add(value.name)
            self._taken.update(tensor.values.name for tensor in graph.sparse_initializer)
            for node in graph.node:
                self._taken.update((node.name, *node.input, *node.output))

    def fresh(self, wanted: str) -> str:
        """``wanted``, with a number after it where the name is taken; from now on it is."""
        name, number = wanted, 1
        while name in self._taken:
            name, number = f"{wanted}_{number}", number + 1
        self._taken.add(name)
        return name


class Scope:
    """One graph of a model, and what its nodes see: its own weights and those of the graphs around it."""

    def __init__(self, graph: onnx.GraphProto, outer: "Scope | None" = None) -> None:
        self.graph, self._outer = graph, outer
        given = {value.name for value in graph.input}
        self._own = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in given}
        self._turned = {node.output[0]: node.input[0] for node in graph.node if _swaps(node)}
        self._made = given | {name for node in graph.node for name in node.output}

    def find(self, name: str) -> "Weight | None":
        """The weight of that name; None for what is computed, or given from outside."""
        if name in self._own:
            return Weight(self, self._own[name])
        return None if self._outer is None or name in self._made else self._outer.find(name)

    def seen(self, name: str) -> "tuple[Weight, bool] | None":
        """The weight of that name and False, or the one whose transposed form it is and True; None for all else.

        A weight that is also read as it is stands behind a Transpose: an embedding that is the last layer too.
        """
        if weight := self.find(name):
            return weight, False
        weight = self.find(self._turned[name]) if name in self._turned else None
        return (weight, True) if weight and len(weight.shape) == 2 else None

    def turns(self, node: onnx.NodeProto) -> bool:
        """Whether ``node`` only transposes a weight."""
        return bool(node.output) and node.output[0] in self._turned and self.seen(node.output[0]) is not None

    def add(self, name: str, array: Array) -> str:
        """Give the graph a new weight; return its name."""
        inner = self._outer is not None  # onnx's checker looks at what lies in nested graphs
        self.graph.initializer.append(numpy_helper.from_array(array, name) if inner else tensor_of(array, name))
        return name


Key = tuple[int, str]
"""What tells a weight from all others: the graph that owns it, and its name."""


@dataclass(frozen=True)
class Weight:
    """A weight and the graph that owns it."""

    owner: Scope
    tensor: TensorProto

    @property
    def name(self) -> str:
        return str(self.tensor.name)

    @property
    def key(self) -> Key:
        return id(self.owner), self.name

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.dims)

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def is_float(self) -> bool:
        return bool(self.tensor.data_type == TensorProto.FLOAT)

    def values(self) -> Array:
        return array_of(self.tensor)


def scopes_of(model: onnx.ModelProto) -> list[Scope]:
    """The main graph and every graph inside its nodes, each after the one around it."""
    return list(_scopes(Scope(model.graph)))


def _scopes(scope: Scope) -> Iterator[Scope]:
    yield scope
    for node in scope.graph.node:
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield from _scopes(Scope(graph, scope))


def reads_of(scopes: Iterable[Scope]) -> Counter[Key]:
    """How often nodes, and whoever runs the model, read each weight, as it is or transposed."""
    reads: Counter[Key] = Counter()
    for scope in scopes:
        named = [name for node in scope.graph.node if not scope.turns(node) for name in node.input if name]
        named += [value.name for value in scope.graph.output]
        reads.update(found[0].key for name in named if (found := scope.seen(name)))
    return reads


def drop_unread(model: onnx.ModelProto) -> None:
    """Remove the weights that nothing reads, from nested graphs too, where onnx-ir 1.1 leaves them.

    The default value of an input is no weight, and stays.
    """
    scopes = scopes_of(model)
    reads = reads_of(scopes)
    for scope in scopes:
        given = {value.name for value in scope.graph.input}
        kept = [tensor for tensor in scope.graph.initializer if reads[id(scope), tensor.name] or tensor.name in given]
        del scope.graph.initializer[:]
        scope.graph.initializer.extend(kept)


def import_contrib(model: onnx.ModelProto) -> None:
    """Let ``model`` use ONNX Runtime's own operators, if it has some and may not yet."""
    used = any(node.domain == CONTRIB for graph in onnx_file.graphs_of(model) for node in graph.node)
    if used and not any(entry.domain == CONTRIB for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))


def _swaps(node: onnx.NodeProto) -> bool:
    """Whether ``node`` transposes what has two axes."""
    return is_standard(node, "Transpose") and attributes_of(node).get("perm", [1, 0]) == [1, 0]


def is_standard(node: onnx.NodeProto, *operators: str) -> bool:
    """Whether ``node`` is one of ``operators`` of ONNX itself."""
    return node.op_type in operators and node.domain in ("", "ai.onnx")


def require_finite(values: Array, weight: str, node: str, source: object) -> None:
    """Raise BadModelFile for a weight of ``node`` that holds NaN or infinity."""
    if not np.isfinite(values).all():
        kind = "NaN" if np.isnan(values).any() else "infinity"
        raise BadModelFile(
            f"The weight '{weight}' of node {node} in {source} holds {kind}: it cannot be quantized.",
            "Look at the training, or export the model again; --exclude leaves the node in float.",
        )


def digest(values: Array) -> str:
    """What two equal weights have in common."""
    return sha256(f"{values.shape}".encode() + np.ascontiguousarray(values).tobytes()).hexdigest()

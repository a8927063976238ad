"""The tree of modules that a network was written as, as far as its file still tells it."""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from toolchain.inspection.nodes import Placed, all_nodes
from toolchain.inspection.record import Module

_SCOPES, _CLASSES = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"
_VIEWS = {"DequantizeLinear", "Cast", "Identity", "Transpose", "Reshape"}
_WEIGHTS = ("weight", "bias")
_WRAPPER = "module"
"""What nnx exports a module inside; its own name is no part of the user's."""
Path = tuple[tuple[str, str], ...]
"""(Path of a module, its class or empty), the outermost first."""


@dataclass
class _Sum:
    kind: str = ""
    nodes: int = 0
    macs: int = 0
    weights: dict[str, int] = field(default_factory=dict)


def tree(
    model: onnx.ModelProto, parameters: Mapping[str, int], macs: Mapping[str, int]
) -> tuple[tuple[Module, ...], str]:
    """(Every module with what it and those inside it take, in the order of the graph; what tells it).

    ``parameters`` are numbers by the name of a weight, ``macs`` by that of a node of the main graph. A weight that
    several modules read counts in each, and once in what is around them.
    """
    behind = dict(_behind(model, parameters))
    parameters = {**parameters, **{name: parameters[weight] for name, weight in behind.items()}}
    nodes = [placed for placed in all_nodes(model) if not placed.inside or not placed.inside[0].startswith("function ")]
    nodes = [placed for placed in nodes if placed.node.output and placed.node.output[0] not in behind]
    for read, source in _SOURCES:
        found = [(placed, path) for placed in nodes if (path := read(placed, parameters))]
        if any(path for _, path in found):
            return _summed(found, parameters, macs, behind), source
    return (), ""


def _summed(
    found: Sequence[tuple[Placed, Path]],
    parameters: Mapping[str, int],
    macs: Mapping[str, int],
    behind: Mapping[str, str],
) -> tuple[Module, ...]:
    sums: dict[str, _Sum] = {}
    for placed, path in found:
        for name, kind in path:
            one = sums.setdefault(name, _Sum())
            one.kind = one.kind or kind
            one.nodes += 1
            one.macs += 0 if placed.inside else macs.get(placed.label, 0)
            read = [each for each in placed.node.input if each in parameters]
            one.weights.update({behind.get(each, each): parameters[each] for each in read})
    return tuple(
        Module(path=name, kind=one.kind, nodes=one.nodes, parameters=sum(one.weights.values()), macs=one.macs)
        for name, one in sums.items()
    )


def _behind(model: onnx.ModelProto, parameters: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """(What a weight is read as, behind nodes that only dequantize, cast or turn it; that weight)."""
    found: dict[str, str] = {}
    for placed in all_nodes(model):
        node = placed.node
        source = found.get(node.input[0], node.input[0]) if node.input else ""
        if node.op_type in _VIEWS and source in parameters:
            found[node.output[0]] = source
            yield node.output[0], source


def _of_metadata(placed: Placed, parameters: Mapping[str, int]) -> Path:
    """torch.onnx's dynamo exporter writes the modules around each node into it."""
    held = {prop.key: prop.value for prop in placed.node.metadata_props}
    scopes, classes = _listed(held.get(_SCOPES, "")), _listed(held.get(_CLASSES, ""))
    if len(scopes) < 2:
        return ()
    kinds = classes if len(classes) == len(scopes) else [""] * len(scopes)
    inner = [(name, kind) for name, kind in zip(scopes[1:-1], kinds[1:-1], strict=True) if name]
    if inner and all(name == _WRAPPER or name.startswith(f"{_WRAPPER}.") for name, _ in inner):
        inner = [(name.removeprefix(f"{_WRAPPER}."), kind) for name, kind in inner if name != _WRAPPER]
    return tuple(dict(inner).items())


def _listed(text: str) -> list[str]:
    """A list of words as Python writes it."""
    try:
        found = ast.literal_eval(text) if text else []
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def _of_node_name(placed: Placed, parameters: Mapping[str, int]) -> Path:
    """torch.onnx's older exporter names nodes ``/layer1/layer1.0/conv1/Conv``."""
    parts = str(placed.node.name).split("/")
    if len(parts) < 3 or parts[0]:
        return ()
    path = ""
    found = []
    for part in parts[1:-1]:
        path = part if not path or part.startswith(f"{path}.") else f"{path}.{part}"
        found.append((path, ""))
    return tuple(dict(found).items())


def _of_weight_names(placed: Placed, parameters: Mapping[str, int]) -> Path:
    """Exporters keep the names of weights, ``layer1.0.conv1.weight``: those of the module that they are in."""
    read = [*placed.node.input[1:2], *placed.node.input]
    name = next((each for each in read if each in parameters and "." in each), "")
    parts = name.split(".")
    end = next((place for place, part in enumerate(parts) if place and part.startswith(_WEIGHTS)), len(parts) - 1)
    parts = parts[:end]
    return tuple((".".join(parts[: depth + 1]), "") for depth in range(len(parts)))


_SOURCES: Sequence[tuple[Callable[[Placed, Mapping[str, int]], Path], str]] = (
    (_of_metadata, "torch's metadata"),
    (_of_node_name, "the names of nodes"),
    (_of_weight_names, "the names of weights"),
)


def within(modules: Sequence[Module], depth: int) -> Iterator[tuple[Module, int]]:
    """Those down to ``depth``, each with its own, the outermost having 0."""
    paths = {module.path for module in modules}
    for module in modules:
        own = sum(module.path.startswith(f"{other}.") for other in paths)
        if own < depth:
            yield module, own

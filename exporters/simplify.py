"""The same model of fewer nodes, by the library that leaves fewest: constants folded, shapes computed, copies dropped.

Of the encoder layer that torch's older exporter writes in 190 nodes onnxslim leaves 41, onnxscript's optimizer 88, and
ONNX Runtime's basic level 93; of most others all leave the same.
"""

import importlib.util
from collections.abc import Callable, Iterator

import onnx

from exporters import onnx_file, provenance
from exporters.library_output import silent


def simplified(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.ModelProto]]:
    """What each library that is installed makes of a copy of ``model``, by its name and version, fewest nodes first.

    What fails, needs operators of another domain, or takes or gives something else than ``model``, is left out.
    """
    found = [
        (provenance.tool_versions((name,)) or name, made)
        for name, make in _LIBRARIES.items()
        if (made := _made(make, model)) is not None
    ]
    yield from sorted(found, key=lambda each: nodes(each[1]))


def nodes(model: onnx.ModelProto) -> int:
    """How many there are, in branches and bodies too."""
    return sum(len(graph.node) for graph in onnx_file.graphs_of(model))


def _made(make: Callable[[onnx.ModelProto], onnx.ModelProto], model: onnx.ModelProto) -> onnx.ModelProto | None:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        with silent():
            made = make(copy)
    except Exception:  # noqa: BLE001 - a library raises anything of a graph that it did not expect
        return None
    if onnx_file.interface_of(made) != onnx_file.interface_of(model) or onnx_file.opset_of(made) != onnx_file.opset_of(
        model
    ):
        return None
    if _domains(made) - _domains(model):
        return None
    weights = {tensor.name for tensor in made.graph.initializer}
    described = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    for value in (*made.graph.input, *made.graph.output):
        if value.name in described and value.name not in weights:
            value.CopyFrom(described[value.name])  # the axes keep their names
    made.ir_version = model.ir_version
    del made.metadata_props[:]
    made.metadata_props.extend(model.metadata_props)
    return made


def _domains(model: onnx.ModelProto) -> set[str]:
    return {node.domain for graph in onnx_file.graphs_of(model) for node in graph.node} - {"ai.onnx"} | {""}


def _by_onnxslim(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxslim  # type: ignore[import-not-found, import-untyped, unused-ignore]  # here: an extra, and it patches protobuf when it is loaded

    made: onnx.ModelProto = onnxslim.slim(model)
    return made


def _by_onnxscript(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxscript import optimizer  # here: it takes a second to load

    made: onnx.ModelProto = optimizer.optimize(model)
    return made


_LIBRARIES: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    **({"onnxslim": _by_onnxslim} if importlib.util.find_spec("onnxslim") else {}),
    "onnxscript": _by_onnxscript,
}

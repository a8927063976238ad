"""``nnx inspect``: what a model file holds and who runs it."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import onnx

from exporters import cleaning, element_types, external_data
from exporters.atomic_file import sha256_of
from exporters.model_file import ModelFile, Value, value_of
from exporters.tensors import all_tensors
from toolchain.inspection import contents, formats, macs, modules, targets
from toolchain.inspection.lighten import is_lightened
from toolchain.inspection.nodes import all_nodes, operator_of
from toolchain.inspection.record import Description, Operator, Port
from toolchain.inspection.releases import Release

_PREFIX = "nnx."


def describe(
    model: ModelFile,
    lengths: Mapping[str, int] | None = None,
    *,
    ask: bool = True,
    releases: Sequence[Release] = (),
) -> Description:
    """All of it; open axes have ``lengths`` where the work is counted. Without ``ask`` no runtime is, but ``releases``.

    Raises BadModelFile for weights beside the file that are missing, unless `nnx lighten` took them out; BadUsage for
    a length of an axis that there is none of.
    """
    graph, weightless = model.graph, is_lightened(model.graph)
    if not weightless:
        external_data.pieces(graph, model.path)
    parameters = contents.parameters(graph)
    work, tally = macs.counted(graph, lengths or {})
    tree, source = modules.tree(graph, parameters, tally.by_node)
    notes = ["Its weights were taken out; `nnx lighten --fill` puts seeded ones in."] if weightless else []
    return Description(
        model=str(model),
        sha256=sha256_of(model.path) if weightless else model.sha256,
        size_bytes=model.path.stat().st_size if weightless else model.size_bytes,
        precision=_precision(model),
        ir_version=model.ir_version,
        opsets={entry.domain or "ai.onnx": entry.version for entry in graph.opset_import},
        producer=" ".join(filter(None, (graph.producer_name, graph.producer_version))),
        inputs=_ports(model.inputs, graph.graph.input, cleaning.overridable(graph)),
        outputs=_ports(model.outputs, graph.graph.output),
        parameters=sum(parameters.values()),
        work=work,
        types=contents.by_kind(graph),
        largest=contents.largest(graph),
        operators=_operators(graph, tally),
        functions=tuple(f"{each.domain}.{each.name}".lstrip(".") for each in graph.functions),
        formats=formats.formats_of(graph),
        targets=targets.targets_of(model, weightless=weightless, releases=releases) if ask else (),
        modules=tree,
        modules_from=source,
        lineage=model.facts,
        metadata={prop.key: prop.value for prop in graph.metadata_props if not prop.key.startswith(_PREFIX)},
        notes=tuple(notes),
    )


def _precision(model: ModelFile) -> str:
    """As :func:`onnx_file.precision_of` has it, which takes weights in double for fp32: no step makes them so."""
    kinds = {tensor.data_type for tensor in all_tensors(model.graph)}
    in_double = onnx.TensorProto.DOUBLE in kinds and onnx.TensorProto.FLOAT not in kinds
    return "fp64" if model.precision == "fp32" and in_double else model.precision


def _ports(
    values: Sequence[Value], stated: Sequence[onnx.ValueInfoProto], defaults: Collection[str] = ()
) -> tuple[Port, ...]:
    """``values``, and those of ``stated`` that have a default value in the file."""
    kinds = {value.name: value.type for value in stated}
    more = [value_of(value) for value in stated if value.name in defaults]
    return (
        *(_port(value, kinds[value.name], optional=False) for value in values),
        *(_port(value, kinds[value.name], optional=True) for value in more),
    )


def _port(value: Value, kind: onnx.TypeProto, *, optional: bool) -> Port:
    if kind.HasField("tensor_type"):
        shape = value.shape if kind.tensor_type.HasField("shape") else None
        return Port(name=value.name, kind=value.dtype, shape=shape, optional=optional)
    return Port(name=value.name, kind=element_types.name_of(kind) or value.dtype, shape=None, optional=optional)


def _operators(model: onnx.ModelProto, tally: macs.Tally) -> tuple[Operator, ...]:
    """Those with the most nodes first."""
    counts = Counter(operator_of(placed.node) for placed in all_nodes(model))
    found = [Operator(name=name, nodes=count, macs=tally.by_operator.get(name)) for name, count in counts.items()]
    return tuple(sorted(found, key=lambda each: (-each.nodes, each.name)))

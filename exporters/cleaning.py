"""Graphs in the form that converters take, and without what nobody reads, by onnx-ir's passes."""

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir
from onnx import TensorProto, helper, numpy_helper, version_converter
from onnx_ir import passes
from onnx_ir.passes import common

from exporters import external_data, folding, skeleton, widening
from exporters.errors import BadModelFile, NotConvertible
from exporters.large_weights import is_stub
from exporters.operators import opsets_of
from exporters.tensors import elements_of

_FIRST_IR_WITH_PLAIN_WEIGHTS = 4  # before it every initializer had to be an input as well
_FIRST_RESIZE_WITH_MODES = 11
_LOOP_INPUTS = 2  # how often, and whether to begin
_NO_FORM = "com.microsoft.nchwc"  # weights laid out for one machine's caches
_PASS_ERRORS = (
    passes.PassError, passes.InvariantError, onnx_ir.serde.SerdeError, ValueError, TypeError, KeyError, AssertionError,
    NotImplementedError, RecursionError,
)  # fmt: skip
_GUARD = ".given"


class _OperatorNames:
    """Unnamed nodes are called by their operator: libraries, and users, tell nodes apart by their names."""

    def generate_node_name(self, node: onnx_ir.Node) -> str:
        return node.name or node.op_type

    def generate_value_name(self, value: onnx_ir.Value) -> str:
        return value.name or "value"


@dataclass(frozen=True)
class Normal:
    """A model in the form that converters take, and what is not as it was, in sentences."""

    model: onnx.ModelProto
    notes: tuple[str, ...]
    was_half: bool
    """Whether something was computed in half precision, and not only stored in it."""


def normalized(model: onnx.ModelProto, source: object = "the model") -> Normal:
    """``model`` in fp32 without functions, with dense weights, and a name of its own for each node.

    What counts as a weight: initializers, sparse ones too; Constant nodes, but outputs; either behind Identity, views,
    Casts to fp32 and DequantizeLinear (:mod:`.folding`); initializers listed as inputs, as IR 3 has all of them. Where
    a later IR lists some, they are inputs with a default value: they stay both, and a node between them and their
    readers keeps converters from taking the default for a constant. Where it lists all that have two axes or more, an
    old exporter wrote it: they are weights.

    What ONNX Runtime runs and ONNX's checker refuses is brought in order: nodes in any order, names that are missing,
    weights that are there twice (the last counts), shapes that are stated wrongly.

    Raises BadModelFile for a graph that contradicts itself, or laid out for one machine.
    """
    if any(entry.domain == _NO_FORM for entry in model.opset_import) and any(
        node.domain == _NO_FORM for node in model.graph.node
    ):
        raise BadModelFile(
            f"{source} was optimized by ONNX Runtime for one machine (operators of {_NO_FORM}).",
            "Give the model as it was before, or one optimized at the level 'extended'.",
        )
    notes: list[str] = []
    thin, weights = _apart(_dense(model))
    _repair(thin)
    kept = _overridable(thin)
    listed = [value for value in thin.graph.input if value.name in weights and value.name not in kept]
    if listed and model.ir_version >= _FIRST_IR_WITH_PLAIN_WEIGHTS:
        notes.append(f"{len(listed)} weights that are listed as inputs are plain weights of the result")
    for value in listed:
        thin.graph.input.remove(value)
    try:
        made = _through(
            thin,
            common.InlinePass(),
            common.TopologicalSortPass(),
            common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            common.NameFixPass(_OperatorNames()),
        )
    except _PASS_ERRORS as error:
        raise _contradiction(source, error) from error
    for tensor in made.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL and not is_stub(tensor):
            name = tensor.name
            tensor.CopyFrom(weights[tensor.external_data[0].value])
            tensor.name = name
    folding.fold(made.graph, keep=kept)
    made.ir_version = max(made.ir_version, _FIRST_IR_WITH_PLAIN_WEIGHTS)
    try:
        half = widening.widen(made)
        guard(made)
        _state_right_shapes(made)
    except onnx.shape_inference.InferenceError as error:
        raise _contradiction(source, error) from error
    if half is not widening.Half.NOTHING:
        notes.append("what is half precision in the source was widened to fp32 first")
    return Normal(made, tuple(notes), half is widening.Half.COMPUTED)


def raised(model: onnx.ModelProto, opset: int, source: object) -> onnx.ModelProto:
    """``model``, normalized, at least at the operator set ``opset``, by ONNX's own converter.

    Raises NotConvertible where that knows no way.
    """
    found = opsets_of(model)[""]
    return model if found >= opset else at_opset(model, opset, source)


def at_opset(model: onnx.ModelProto, opset: int, source: object) -> onnx.ModelProto:
    """``model``, normalized, at another operator set, by ONNX's own converter. Raises as :func:`raised`."""
    found = opsets_of(model)[""]
    if not found:  # all its operators are from elsewhere: there are none to convert
        made = onnx.ModelProto()
        made.CopyFrom(model)
        made.opset_import.append(helper.make_opsetid("", opset))
        return made
    thin, weights = _apart(model)
    try:
        made = named(version_converter.convert_version(thin, opset))
        for tensor in made.graph.initializer:
            if tensor.name in weights:
                tensor.CopyFrom(weights[tensor.name])
        if _valid(model):  # what was no valid ONNX before may run all the same
            skeleton.check(made)  # Scan of opset 8 is raised by its number alone
    except (
        RuntimeError,
        ValueError,
        version_converter.ConvertError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    ) as error:
        raise NotConvertible(
            f"{source} has opset {found}, and its operators could not be {'raised' if found < opset else 'lowered'} to "
            f"{opset}: {_one_line(error)}.",
            "Export it again with --opset 18 or newer." if found < opset else "Export it again with a lower --opset.",
        ) from error
    if found < _FIRST_RESIZE_WITH_MODES <= opset:
        _state_resizing(made)
    return made


def _valid(model: onnx.ModelProto) -> bool:
    try:
        skeleton.check(model)
    except (ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True


def _state_resizing(model: onnx.ModelProto) -> None:
    """Say of each Resize how it finds its places, as Upsample and the first Resize did: ONNX's converter forgets."""
    for graph in skeleton.graphs_of(model.graph):
        for node in graph.node:
            said = {attribute.name for attribute in node.attribute}
            if node.op_type == "Resize" and not node.domain and "coordinate_transformation_mode" not in said:
                node.attribute.append(helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
                if "nearest_mode" not in said:
                    node.attribute.append(helper.make_attribute("nearest_mode", "floor"))


def overridable(model: onnx.ModelProto) -> set[str]:
    """The names of the inputs that have a default value."""
    if model.ir_version < _FIRST_IR_WITH_PLAIN_WEIGHTS:
        return set()
    return {tensor.name for tensor in model.graph.initializer} & {value.name for value in model.graph.input}


def guard(model: onnx.ModelProto) -> None:
    """Let an Identity stand between each input with a default value and its readers, once."""
    names = overridable(model)
    readers = [node for node in model.graph.node if set(node.input) & names]
    for name in sorted(names):
        own = [node for node in readers if name in node.input]
        if all(node.output[0] == name + _GUARD for node in own):
            continue
        for node in model.graph.node:
            folding.rename(node, {name: name + _GUARD})
        nodes = list(model.graph.node)
        first = helper.make_node("Identity", [name], [name + _GUARD], name=name + _GUARD)
        del model.graph.node[:]
        model.graph.node.extend([first, *nodes])


def _overridable(thin: onnx.ModelProto) -> set[str]:
    """Those of its inputs with a default value that are an interface, and no old exporter's habit."""
    listed = overridable(thin)
    matrices = {tensor.name for tensor in thin.graph.initializer if len(tensor.dims) >= 2}
    return set() if matrices and matrices <= listed else listed


def _apart(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, TensorProto]]:
    """A copy with stubs, as of weights stored elsewhere, for the large ones; and the weights by name."""
    made = onnx.ModelProto()
    external_data.copy_fields(model, made, without="graph")
    external_data.copy_fields(model.graph, made.graph, without="initializer")
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, tensor in weights.items():  # of those by one name the last, as ONNX Runtime takes them
        if elements_of(tensor) <= skeleton.SMALL or tensor.data_type == TensorProto.STRING:
            made.graph.initializer.append(tensor)
            continue
        stub = made.graph.initializer.add(name=name, data_type=tensor.data_type, dims=tensor.dims)
        stub.data_location = TensorProto.EXTERNAL
        stub.external_data.add(key="location", value=name)
    return made, weights


def _repair(model: onnx.ModelProto) -> None:
    """What ONNX Runtime takes as it is."""
    graph = model.graph
    graph.name = graph.name or "graph"
    name_own_domain(model)
    properties = {prop.key: prop.value for prop in model.metadata_props}
    if len(properties) < len(model.metadata_props):
        del model.metadata_props[:]
        helper.set_model_props(model, properties)
    for inner in skeleton.graphs_of(graph):
        for value in (*inner.input, *inner.output, *inner.value_info):
            for axis in value.type.tensor_type.shape.dim:
                if axis.HasField("dim_value") and axis.dim_value < 0:
                    axis.Clear()


def name_own_domain(model: onnx.ModelProto) -> None:
    """Let ONNX's own operators have no domain: its checker does not know them by ``ai.onnx``."""
    for part in (model, *model.functions):
        for entry in [entry for entry in part.opset_import if entry.domain == "ai.onnx"]:
            if any(not other.domain for other in part.opset_import):
                part.opset_import.remove(entry)
            else:
                entry.domain = ""
    inside = (node for graph in skeleton.graphs_of(model.graph) for node in graph.node)
    for node in (*inside, *(node for function in model.functions for node in function.node)):
        if node.domain == "ai.onnx":
            node.domain = ""


def _state_right_shapes(model: onnx.ModelProto) -> None:
    """Types for outputs without one; and where stated shapes contradict the operators, the operators' own."""
    try:
        skeleton.check(model)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        tried = skeleton.skeleton(model)
        del tried.graph.value_info[:]
        for value in tried.graph.output:
            value.type.tensor_type.ClearField("shape")
        skeleton.take_shapes(model.graph, onnx.shape_inference.infer_shapes(tried, data_prop=True).graph)


def _contradiction(source: object, error: Exception) -> BadModelFile:
    return BadModelFile(
        f"The graph in {source} contradicts itself: {_one_line(error)}.", "Copy or export the model again."
    )


def _one_line(error: BaseException) -> str:
    text = str(error.__cause__ or error)
    text = text.partition(" failed: ")[2] or text  # of an assertion in C++
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".:")


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with a name of its own for each node; unique names stay."""
    return _through(model, common.NameFixPass(_OperatorNames()))


def without_dead_parts(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` without the nodes and weights that no output depends on, in nested graphs too; its interface stays."""
    return _through(model, common.RemoveUnusedNodesPass())


def _through(model: onnx.ModelProto, *steps: passes.PassBase) -> onnx.ModelProto:
    held = {value.name: value.type for value in model.graph.output if _is_beyond_ir(value.type)}
    held |= {value.name: value.type for value in model.graph.input if _is_beyond_ir(value.type)}
    passing = onnx_ir.from_proto(_within_ir(model))
    for step in steps:
        passing = step(passing).model
    made = onnx_ir.to_proto(passing)
    for value in (*made.graph.input, *made.graph.output):
        if value.name in held:
            value.type.CopyFrom(held[value.name])
    for graph in skeleton.graphs_of(made.graph):
        for node in graph.node:
            if node.op_type == "Loop" and not node.domain:  # whose last inputs may be absent, but not missing
                node.input.extend([""] * (_LOOP_INPUTS - len(node.input)))
    # it states the shapes of weights a second time, as torch.onnx does: wrong once somebody has changed them
    weights = {tensor.name for tensor in made.graph.initializer}
    activations = [value for value in made.graph.value_info if value.name not in weights]
    del made.graph.value_info[:]
    made.graph.value_info.extend(activations)
    return made


def _within_ir(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` without the types that onnx-ir 1.1 knows no form of (maps, opaque ones); itself where it has none."""
    graphs = list(skeleton.graphs_of(model.graph))
    if not any(_is_beyond_ir(value.type) for graph in graphs for value in _values(graph)):
        return model
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for graph in skeleton.graphs_of(made.graph):
        for value in _values(graph):
            if _is_beyond_ir(value.type):
                value.ClearField("type")
    return made


def _values(graph: onnx.GraphProto) -> tuple[onnx.ValueInfoProto, ...]:
    return (*graph.input, *graph.output, *graph.value_info)


def _is_beyond_ir(kind: onnx.TypeProto) -> bool:
    which = kind.WhichOneof("value")
    if which in ("sequence_type", "optional_type"):
        return _is_beyond_ir(getattr(kind, which).elem_type)
    return which in ("map_type", "opaque_type")


def _dense(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without sparse tensors, which onnx-ir 1.1 loses or refuses; the model itself where there are none."""
    if not any(graph.sparse_initializer or any(map(_is_sparse, graph.node)) for graph in _all_graphs(model)):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for graph in _all_graphs(copy):
        for sparse in graph.sparse_initializer:
            graph.initializer.append(_filled(sparse))
        del graph.sparse_initializer[:]
        for node in filter(_is_sparse, graph.node):
            value = _filled(node.attribute[0].sparse_tensor)
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("value", value))
    return copy


def _all_graphs(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    return list(skeleton.graphs_of(model.graph))


def _is_sparse(node: onnx.NodeProto) -> bool:
    return node.op_type == "Constant" and any(each.name == "sparse_value" for each in node.attribute)


def _filled(sparse: onnx.SparseTensorProto) -> TensorProto:
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    places = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), dense.shape)
    dense.reshape(-1)[places] = values
    return numpy_helper.from_array(dense, sparse.values.name)

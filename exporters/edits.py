"""Changes that leave what a model computes: axes fixed, names changed, a part cut out, what is only told stripped."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import onnx
from onnx import helper

from exporters import cleaning, float_io, onnx_file, skeleton, versions
from exporters.errors import BadOption

_NAMED = 12


@dataclass(frozen=True, kw_only=True)
class Edits:
    """What is to be changed, in this order.

    ``fix`` gives axes their lengths, by the axis' name or as ``INPUT:NUMBER``. ``start`` and ``end`` are the tensors
    between which a part is cut out: they become its inputs and outputs, without any those of the model stay.
    ``rename`` is for inputs and outputs. ``float_io`` is the kind that float ones get (:data:`.float_io.KINDS`), empty
    where they keep theirs. ``strip`` drops documentation, stack traces and other people's metadata. ``opset`` and
    ``ir_version`` are what the file is written for. ``simplify`` asks for fewer nodes, which is not done here: what
    makes them may fail (:mod:`.simplify`).
    """

    fix: Mapping[str, int] = field(default_factory=dict)
    start: tuple[str, ...] = ()
    end: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    float_io: str = ""
    strip: bool = False
    simplify: bool = False
    opset: int | None = None
    ir_version: int | None = None

    def applied(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """A changed copy. Raises BadOption for names that are not there, taken, or lead nowhere, and for versions that
        do not hold what is in the model.
        """
        made = self.fixed(model)
        _state_shapeless(made)
        if self.start or self.end:
            cut(made, self.start, self.end)
        if self.rename:
            renamed(made, self.rename)
        if self.float_io:
            float_io.cast_interface(made, self.float_io, _types(made))
        if self.strip:
            stripped(made)
        if self.opset not in (None, onnx_file.opset_of(made)):
            made = cleaning.at_opset(made, self.opset, "The model")
        if self.ir_version is not None:
            versions.set_ir(made, self.ir_version)
        return made

    def fixed(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """A copy in which only axes are fixed, and ONNX's own operators have their usual domain."""
        made = onnx.ModelProto()
        made.CopyFrom(model)
        cleaning.name_own_domain(made)
        if self.fix:
            fix_axes(made, self.fix)
        return made


def fix_axes(model: onnx.ModelProto, lengths: Mapping[str, int]) -> None:
    """Give open axes of the inputs a length; all that have the same name get it, in the outputs too."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in weights}
    names: dict[str, int] = {}
    for axis, length in lengths.items():
        owner, colon, number = axis.rpartition(":")
        if colon and owner in inputs and number.isdecimal():
            dimensions = inputs[owner].type.tensor_type.shape.dim
            if int(number) >= len(dimensions):
                raise BadOption(f"'{owner}' has {len(dimensions)} axes.", f"Count them from 0: {owner}:0.")
            dimension = dimensions[int(number)]
            _require_open(dimension, axis, length)
            if dimension.dim_param and names.setdefault(dimension.dim_param, length) != length:
                raise BadOption(f"The axis '{dimension.dim_param}' is to have two lengths.", "Give it one.")
            dimension.dim_value = length
        elif names.setdefault(axis, length) != length:
            raise BadOption(f"The axis '{axis}' is to have two lengths.", "Give it one.")
    known = {dimension.dim_param for value in inputs.values() for dimension in _dimensions(value)} - {""}
    if strange := next((name for name in names if name not in known and name in lengths), None):
        raise BadOption(
            f"No input has an open axis '{strange}'.",
            f"There are {onnx_file.some(sorted(known)) or 'none with a name'}.",
        )
    for value in (*inputs.values(), *model.graph.output):
        for dimension in _dimensions(value):
            if dimension.dim_param in names:
                dimension.dim_value = names[dimension.dim_param]
    del model.graph.value_info[:]
    _state_outputs(model)


def _require_open(dimension: onnx.TensorShapeProto.Dimension, axis: str, length: int) -> None:
    if dimension.HasField("dim_value") and dimension.dim_value != length:
        raise BadOption(f"The axis {axis} has the length {dimension.dim_value} already.", "Leave it out.")


def _dimensions(value: onnx.ValueInfoProto) -> Iterator[onnx.TensorShapeProto.Dimension]:
    yield from value.type.tensor_type.shape.dim


def _state_outputs(model: onnx.ModelProto) -> None:
    """Let the outputs have the shapes that follow; where onnx cannot tell them what they state stays."""
    asked = onnx.ModelProto()
    asked.CopyFrom(skeleton.skeleton(model))
    for value in asked.graph.output:
        for dimension in _dimensions(value):
            if dimension.dim_param:
                dimension.ClearField("dim_param")
    try:
        told = onnx.shape_inference.infer_shapes(asked, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return
    for value, found in zip(model.graph.output, told.graph.output, strict=True):
        for dimension, other in zip(_dimensions(value), _dimensions(found), strict=False):
            if not dimension.HasField("dim_value") and other.HasField("dim_value"):
                dimension.dim_value = other.dim_value


def _state_shapeless(model: onnx.ModelProto) -> None:
    """Give outputs that state no shape the one that follows: ONNX Runtime does without, ONNX's checker does not."""
    shapeless = [
        value
        for value in model.graph.output
        if value.type.WhichOneof("value") in (None, "tensor_type") and not value.type.tensor_type.HasField("shape")
    ]
    if not shapeless:
        return
    asked = onnx.ModelProto()
    asked.CopyFrom(skeleton.skeleton(model))
    try:
        told = {value.name: value for value in onnx.shape_inference.infer_shapes(asked, data_prop=True).graph.output}
    except onnx.shape_inference.InferenceError:
        return
    for value in shapeless:
        if told[value.name].type.tensor_type.HasField("shape"):
            value.type.CopyFrom(told[value.name].type)


def cut(model: onnx.ModelProto, start: Collection[str], end: Collection[str]) -> None:
    """Leave the part that computes ``end``, or else the outputs, from ``start`` and what it needs of the inputs."""
    graph = model.graph
    made = {name for node in graph.node for name in node.output if name}
    given = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    for name in (*start, *end):
        if name not in made and not (name in given and name in start):
            near = onnx_file.some([each for each in made if name and name in each][:_NAMED]) or onnx_file.some(
                sorted(made)
            )
            raise BadOption(f"No node makes '{name}'.", f"Name a tensor of the main graph, such as {near}.")
    types = _types(model)
    untold = next((name for name in (*start, *end) if name in made and name not in types), None)
    if untold is not None:
        raise BadOption(f"The type of '{untold}' cannot be told.", "Cut at another tensor.")
    inside = [name for name in dict.fromkeys(start) if name in made]
    _detach(graph, set(inside))
    graph.input.extend(types[name] for name in inside)
    if end:
        del graph.output[:]
        graph.output.extend(types[name] for name in dict.fromkeys(end))
    read = _keep_what_is_needed(graph)
    if idle := [name for name in start if name not in read]:
        raise BadOption(
            f"'{idle[0]}' does not lead to {onnx_file.some([value.name for value in graph.output])}.",
            "Choose a tensor before it, or leave --from out.",
        )


def _keep_what_is_needed(graph: onnx.GraphProto) -> set[str]:
    """Drop nodes, weights and inputs that no output depends on; the names of what is read are returned."""
    read = {value.name for value in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if read & set(node.output):
            nodes.append(node)
            read |= {*node.input, *onnx_file.outer_reads(node)}
    read.discard("")
    for part, kept in (
        (graph.node, nodes[::-1]),
        (graph.input, [value for value in graph.input if value.name in read]),
        (graph.initializer, [tensor for tensor in graph.initializer if tensor.name in read]),
        (graph.sparse_initializer, [each for each in graph.sparse_initializer if each.values.name in read]),
    ):
        del part[:]
        part.extend(kept)
    return read


def _types(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """What is known of tensors of the main graph: their types, and shapes where those are told."""
    try:
        told = skeleton.inferred(model).graph
    except onnx.shape_inference.InferenceError:
        told = model.graph
    values = (*told.value_info, *model.graph.value_info, *model.graph.output)
    found: dict[str, onnx.ValueInfoProto] = {}
    for value in values:
        if value.type.WhichOneof("value") is not None:
            found.setdefault(value.name, value)
    return found


def _detach(graph: onnx.GraphProto, names: Collection[str]) -> None:
    """Let nothing make the tensors ``names`` any more: their nodes make others, which nobody reads."""
    for node in graph.node:
        node.output[:] = [f"{name}/cut_off" if name in names else name for name in node.output]


def renamed(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Give inputs and outputs other names."""
    graph = model.graph
    own = [value.name for value in (*graph.input, *graph.output)]
    if strange := next((name for name in names if name not in own), None):
        raise BadOption(f"The model has no input or output '{strange}'.", f"It has {onnx_file.some(own, _NAMED)}.")
    taken = {name for each in onnx_file.graphs_of(model) for node in each.node for name in (*node.input, *node.output)}
    taken |= {*own, *(tensor.name for tensor in graph.initializer)}
    if clash := next((new for new in names.values() if new in taken - set(names) or not new), None):
        raise BadOption(f"The name '{clash}' is in use already.", "Choose another one.")
    if len(set(names.values())) != len(names):
        raise BadOption("Two are to have one name.", "Choose another one.")
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        onnx_file.rename_outer_reads(node, names)
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for annotation in graph.quantization_annotation:
        annotation.tensor_name = names.get(annotation.tensor_name, annotation.tensor_name)


def stripped(model: onnx.ModelProto) -> None:
    """Drop documentation and metadata of the graph and its nodes, and of the model what nnx has not written."""
    model.doc_string = ""
    own = {entry.key: entry.value for entry in model.metadata_props if entry.key.startswith("nnx.")}
    del model.metadata_props[:]
    helper.set_model_props(model, own)
    for graph in onnx_file.graphs_of(model):
        graph.doc_string = ""
        del graph.metadata_props[:]
        for item in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
            item.doc_string = ""
            del item.metadata_props[:]
    for function in model.functions:
        function.doc_string = ""
        del function.metadata_props[:]
        for node in function.node:
            node.doc_string = ""
            del node.metadata_props[:]

"""Names, makers and readers of a graph, operators, shapes: what onnx's checker looks at, which ends at the first."""

import re
from collections.abc import Iterable, Iterator

import onnx
from onnx import checker

from exporters import onnx_file, skeleton
from exporters.element_types import inner_graphs
from exporters.operators import opsets_of
from runtimes import ort_kernels
from toolchain.inspection.faults import WARNING, Fault
from toolchain.inspection.nodes import ONNX_DOMAINS, Placed, name_of, nodes_of, number, of_function
from toolchain.inspection.shapes import Shapes

_CHANNELS = {
    "Conv": ((1, 1, True),), "ConvTranspose": ((1, 0, False),), "InstanceNormalization": ((1, 0, False),),
    "BatchNormalization": tuple((place, 0, False) for place in (1, 2, 3, 4)),
}  # fmt: skip
"""Operator -> which weights, their axis, and whether a group has so many channels."""
_NOT_IMPORTED = "opset import for domain"
_AGAIN = "Export the model again, or mend the graph."
_INFERENCE = re.compile(r"\(op_type:([^\s,)]+)(?:, node name: (.*?))?\):? *(.*)")
_PREFIXES = re.compile(r"\[(?:Shape|Type)InferenceError\] *|Inference error\(s\): *")
_OF_THE_LIBRARY = re.compile(r"\b(?:vector|basic_string|map|array|stoi|bad_alloc)(?:::|$)")
_ERRORS = (checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, ValueError)


def graph_faults(model: onnx.ModelProto) -> Iterator[Fault]:
    """What is read and never made, made twice, made for nobody, out of order."""
    yield from _of_graph(model.graph, set(), ())
    yield from _dead(model)
    for function in model.functions:
        inside = (f"function {function.name}",)
        yield from _twice("inputs", list(function.input), inside)
        yield from _twice("outputs", list(function.output), inside)
        yield from _of_nodes(function.node, set(function.input), set(), inside)
        made = {*function.input, *(name for node in function.node for name in node.output)}
        for name in function.output:
            if name not in made:
                yield _fault(inside[0], f"the output '{name}' is made by nothing")
    yield from _unsaid(model)


def _unsaid(model: onnx.ModelProto) -> Iterator[Fault]:
    """Inputs and outputs of which the file does not state all that onnx's checker wants."""
    for what, values in (("input", model.graph.input), ("output", model.graph.output)):
        for value in values:
            kind = value.type.WhichOneof("value")
            shapeless = kind == "tensor_type" and not value.type.tensor_type.HasField("shape")
            if kind is None or shapeless:
                missing = "type" if kind is None else "shape"
                yield Fault(
                    kind="checker", where=value.name, what=f"this {what} states no {missing}, which ONNX wants of it",
                    do=f"State its {missing}; an axis of a shape may be open.",
                )  # fmt: skip


def _of_graph(graph: onnx.GraphProto, outer: set[str], inside: tuple[str, ...]) -> Iterator[Fault]:
    given = [value.name for value in graph.input]
    yield from _twice("inputs", given, inside)
    weights = [tensor.name for tensor in graph.initializer]
    weights += [sparse.values.name for sparse in graph.sparse_initializer]
    yield from _twice("weights", weights, inside)
    yield from _twice("outputs", [value.name for value in graph.output], inside)
    own = set(given) | set(weights)
    yield from _of_nodes(graph.node, own, outer, inside)
    seen = outer | own | {name for node in graph.node for name in node.output}
    for value in graph.output:
        if value.name not in seen:
            yield _fault(" / ".join(inside), f"the output '{value.name}' is made by nothing")
        elif not value.name:
            yield _fault(" / ".join(inside), "an output has no name")


def _of_nodes(
    nodes: Iterable[onnx.NodeProto], own: set[str], outer: set[str], inside: tuple[str, ...]
) -> Iterator[Fault]:
    """``own`` are the inputs and weights of their graph or function, ``outer`` what graphs around it have by then."""
    seen, made = outer | own, set[str]()
    later = {name for node in nodes for name in node.output}
    for node in nodes:
        label = Placed(node, inside).label
        for name in sorted(set(filter(None, node.input)) - seen):
            why = "which only a later node makes" if name in later else "which nothing makes"
            do = "Sort the nodes, each after those that it reads." if name in later else _AGAIN
            yield _fault(label, f"reads '{name}', {why}", do)
        for inner in inner_graphs(node):
            yield from _of_graph(inner, seen, (*inside, name_of(node)))
        for name in sorted(set(filter(None, node.output)) & own):
            yield _fault(label, f"makes '{name}', which is an input or weight already")
        for name in sorted(set(filter(None, node.output)) & made):
            yield _fault(label, f"makes '{name}', which another node makes already")
        seen.update(node.output)
        made.update(node.output)


def _twice(what: str, names: list[str], inside: tuple[str, ...]) -> Iterator[Fault]:
    for name in sorted({name for name in names if names.count(name) > 1} if len(names) > len(set(names)) else ()):
        yield _fault(" / ".join(inside), f"two {what} are called '{name}'")


def _fault(where: str, what: str, do: str = _AGAIN) -> Fault:
    return Fault(kind="graph", where=where, what=what, do=do)


def _dead(model: onnx.ModelProto) -> Iterator[Fault]:
    """Nodes on which no output depends; weights and inputs that nobody reads."""
    for depth, graph in enumerate(skeleton.graphs_of(model.graph)):
        wanted = {value.name for value in graph.output}
        dead = []
        for node in reversed(graph.node):
            if wanted & set(node.output):
                wanted |= {*node.input, *onnx_file.outer_reads(node)}
            else:
                dead.append(node)
        read = wanted | {name for node in dead for name in (*node.input, *onnx_file.outer_reads(node))}
        for node in reversed(dead):
            if node.op_type == "Constant":
                if not read & set(node.output):
                    yield _unread(name_of(node), "no node reads this constant")
                continue
            yield Fault(
                kind="dead node", where=name_of(node), what="no output depends on it", severity=WARNING,
                do="Leave it out: onnx_ir's RemoveUnusedNodesPass does.",
            )  # fmt: skip
        own = {value.name for value in graph.input}
        for tensor in graph.initializer:
            if tensor.name not in read and tensor.name not in own:
                yield _unread(tensor.name, "no node reads this weight")
        if depth == 0:
            for value in graph.input:
                if value.name not in read:
                    yield _unread(value.name, "no node reads this input")


def _unread(name: str, what: str) -> Fault:
    return Fault(kind="unread", where=name, what=what, do="Leave it out.", severity=WARNING)


def operator_faults(model: onnx.ModelProto) -> Iterator[Fault]:
    """Nodes that ONNX's definition of their operator does not allow, and domains that are not imported."""
    functions = {(function.domain, function.name) for function in model.functions}
    missing: set[str] = set()
    for placed, versions in _with_opsets(model):
        node, opsets = placed.node, versions
        imported = {*opsets, *(entry.domain for entry in model.opset_import)}
        context = checker.C.CheckerContext()
        context.ir_version = min(max(model.ir_version, 3), int(onnx.IR_VERSION))
        context.opset_imports = {domain: version for domain, version in opsets.items() if domain != "ai.onnx"}
        if node.domain not in ONNX_DOMAINS and node.domain not in imported:
            missing.add(node.domain)
        if (node.domain, node.op_type) in functions or node.domain not in ONNX_DOMAINS:
            continue
        try:
            checker.check_node(_alone(node), context, checker.C.LexicalScopeContext())
        except _ERRORS as error:
            if not _is_the_runtimes(node, opsets):
                do = newer_operator(node, opsets.get("", 1)) or _AGAIN
                yield Fault(kind="operator", where=placed.label, what=onnx_file.one_line(error), do=do)
    for domain in sorted(missing):
        yield Fault(
            kind="operator", where="", what=f"it uses operators of '{domain}' and does not import that",
            do="Add the domain to opset_import.",
        )  # fmt: skip


def _with_opsets(model: onnx.ModelProto) -> Iterator[tuple[Placed, dict[str, int]]]:
    """Every node with the operator sets that its graph or function imports."""
    own = opsets_of(model)
    yield from ((placed, own) for placed in nodes_of(model.graph))
    for function in model.functions:
        versions = opsets_of(onnx.ModelProto(opset_import=function.opset_import or model.opset_import))
        yield from ((placed, versions) for placed in of_function(function))


def newer_operator(node: onnx.NodeProto, opset: int) -> str:
    """What to do about an operator that ONNX has since a later operator set; empty for another."""
    if node.domain not in ONNX_DOMAINS:
        return ""
    since = [
        schema.since_version
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.name == node.op_type and schema.domain == "" and not schema.deprecated
    ]
    least = min(since, default=0)
    return f"ONNX has it since opset {least}: nnx convert --opset {least}." if least > opset else ""


def _alone(node: onnx.NodeProto) -> onnx.NodeProto:
    """Without the graphs inside it, whose nodes are looked at one by one, and without values of constants."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.domain = "" if copy.domain in ONNX_DOMAINS else copy.domain
    for each in copy.attribute:
        if each.HasField("g"):
            each.g.CopyFrom(onnx.GraphProto(name="inside"))
        if each.HasField("t") and each.t.data_location == onnx.TensorProto.EXTERNAL:
            each.t.CopyFrom(onnx.helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [0.0]))
    return copy


def _is_the_runtimes(node: onnx.NodeProto, opsets: dict[str, int]) -> bool:
    """Whether it is one of those that ONNX Runtime keeps in ONNX's domain."""
    known = onnx.defs.has(node.op_type, opsets.get("", 1), "")
    return not known and ort_kernels.since_version("", node.op_type, opsets.get("", 1)) is not None


def shape_faults(model: onnx.ModelProto) -> Iterator[Fault]:
    """Where the operators contradict each other's shapes and types, or what the file states of them."""
    try:
        told = skeleton.inferred(model, strict=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        yield from told_faults(str(error))
        told = model
    yield from _channels(told.graph, None, ())


def _channels(graph: onnx.GraphProto, outer: Shapes | None, inside: tuple[str, ...]) -> Iterator[Fault]:
    """Convolutions and norms whose weights are for another number of channels: onnx's inference does not look."""
    known = Shapes(graph, outer)
    for node in graph.node:
        given = known.of(node.input[0]) if node.input else None
        found = given[1] if given is not None and len(given) > 1 else None
        for place, axis, times in _CHANNELS.get(node.op_type, ()) if node.domain in ONNX_DOMAINS else ():
            shape = known.of(node.input[place]) if len(node.input) > place else None
            length = shape[axis] if shape is not None and len(shape) > axis else None
            wanted = None if length is None else length * (number(node, "group", 1) if times else 1)
            if found is not None and wanted is not None and found != wanted:
                what = f"'{node.input[place]}' is for {wanted} channels, and '{node.input[0]}' has {found}"
                do = "Mend the shapes, or export it again."
                yield Fault(kind="shape", where=Placed(node, inside).label, what=what, do=do)
        for inner in inner_graphs(node):
            yield from _channels(inner, known, (*inside, name_of(node)))


def told_faults(said: str) -> Iterator[Fault]:
    """A fault for each node that onnx's inference names."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for line in (line for line in lines if _NOT_IMPORTED not in line):
        what, inside = line, []
        while found := _INFERENCE.search(what):  # of a graph inside a node: what is told of the node holds the rest
            inside.append(found[2] or found[1])
            what = found[3]
        what = _PREFIXES.sub("", what).strip(". :")
        if _OF_THE_LIBRARY.search(what):
            what = f"onnx's shape inference fails on the shapes or attributes of {'this' if inside else 'some'} node"
        yield Fault(kind="shape", where=" / ".join(inside), what=what, do="Mend the shapes, or export it again.")

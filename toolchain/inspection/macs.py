"""The multiply-accumulates of one run of a model, node by node, and what of it is not counted."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper

from toolchain.inspection import mac_rules, shapes
from toolchain.inspection.nodes import name_of, number, operator_of
from toolchain.inspection.record import Uncounted, Work
from toolchain.inspection.shapes import Shaped, Shapes

_OPEN_SHAPES = "a length in their inputs is not known"
_NO_RULE = "nnx has no rule for it"


@dataclass
class Tally:
    """Multiplications by operator and by the name of a node of the main graph, and what was left out."""

    by_operator: Counter[str] = field(default_factory=Counter)
    by_node: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    without_rule: Counter[str] = field(default_factory=Counter)
    notes: dict[str, None] = field(default_factory=dict)

    def add(self, other: "Tally", times: int = 1) -> None:
        """What a nested graph takes, so many times."""
        self.by_operator.update({name: count * times for name, count in other.by_operator.items()})
        self.unknown.update(other.unknown)
        self.without_rule.update(other.without_rule)
        self.notes.update(other.notes)

    @property
    def total(self) -> int:
        return sum(self.by_operator.values())


def counted(model: onnx.ModelProto, given: Mapping[str, int]) -> tuple[Work, Tally]:
    """What a run takes, open axes as :func:`shapes.shaped` fixes them."""
    best: tuple[Shaped, Tally] | None = None
    for made in shapes.shaped(model, given):
        for tally in _ever_better(made):
            if best is None or tally.unknown.total() < best[1].unknown.total():
                best = made, tally
            if not tally.unknown:
                return _work(made, tally), tally
    assert best is not None
    return _work(*best), best[1]


def _ever_better(made: Shaped) -> Iterator[Tally]:
    yield _tally(made.model.graph, None)
    for model in shapes.ways_to_more(made.model):
        yield _tally(model.graph, None)


def _work(made: Shaped, tally: Tally) -> Work:
    missing = [Uncounted(operator=name, nodes=count, why=_OPEN_SHAPES) for name, count in tally.unknown.items()]
    missing += [Uncounted(operator=name, nodes=count, why=_NO_RULE) for name, count in tally.without_rule.items()]
    return Work(
        macs=tally.total,
        lengths=made.lengths,
        assumed=made.assumed,
        not_counted=tuple(missing),
        notes=tuple(tally.notes),
    )


def _tally(graph: onnx.GraphProto, outer: Shapes | None) -> Tally:
    known, found = Shapes(graph, outer), Tally()
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        before = found.total
        rule = mac_rules.rule_of(node)
        if rule is not None:
            try:
                found.by_operator[operator_of(node)] += rule(mac_rules.Facts(node, known))
            except (mac_rules.Unknown, ValueError, IndexError):  # of fewer axes than the operator takes
                found.unknown[operator_of(node)] += 1
        elif mac_rules.may_multiply(node):
            found.without_rule[operator_of(node)] += 1
        _add_nested(found, node, known, constants)
        found.by_node[name_of(node)] += found.total - before
    return found


def _add_nested(found: Tally, node: onnx.NodeProto, known: Shapes, constants: Mapping[str, onnx.TensorProto]) -> None:
    """Of an If the branch that takes more; a body as often as it runs, once where that is not known."""
    bodies = [(each.name, each.g) for each in node.attribute if each.HasField("g")]
    if not bodies:
        return
    inner = [_tally(graph, known) for _, graph in bodies]
    if node.op_type == "If":
        heavier = max(inner, key=lambda each: each.total)
        found.add(heavier)
        if any(each.total != heavier.total for each in inner):
            found.notes["Of an If the branch that takes more is counted."] = None
        return
    turns = _turns(node, known, constants)
    if turns is None and any(each.total for each in inner):
        found.notes[f"A {node.op_type} of unknown length is counted as one turn."] = None
    for each in inner:
        found.add(each, 1 if turns is None else turns)


def _turns(node: onnx.NodeProto, known: Shapes, constants: Mapping[str, onnx.TensorProto]) -> int | None:
    """How often a Loop or Scan goes round."""
    if node.op_type == "Loop" and node.input and node.input[0] in constants:
        value = np.ravel(numpy_helper.to_array(constants[node.input[0]]))
        return int(value[0]) if value.size == 1 and 0 <= int(value[0]) < 2**31 else None
    if node.op_type == "Scan" and (scanned := number(node, "num_scan_inputs", 0)) and node.input:
        first = known.of(node.input[len(node.input) - scanned])
        return first[0] if first else None
    return None

"""The multiply-accumulates of one run of a model, node by node, and what of it is not counted."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from exporters import onnx_file
from exporters.large_weights import array_of, is_there
from exporters.operators import attribute
from toolchain.inspection import mac_rules, shapes
from toolchain.inspection.nodes import constants_of, name_of, number, operator_of
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
        self.add_left_out(other)

    def add_left_out(self, other: "Tally") -> None:
        """What of a nested graph is not counted."""
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
    for model in (made.model, *shapes.ways_to_more(made.model)):
        found = _tally(model.graph, _Around(None, {}, onnx_file.opset_of(model)))
        for inlined, caller in made.callers.items():
            found.by_node[caller] += found.by_node[inlined]
        yield found


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


@dataclass(frozen=True)
class _Around:
    """What is known around a graph: shapes, constants, the operator set."""

    shapes: Shapes | None
    constants: Mapping[str, onnx.TensorProto]
    opset: int


def _tally(graph: onnx.GraphProto, outer: _Around) -> Tally:
    known, found = Shapes(graph, outer.shapes), Tally()
    around = _Around(known, {**outer.constants, **constants_of(graph)}, outer.opset)
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
        _add_nested(found, node, around)
        found.by_node[name_of(node)] += found.total - before
    return found


def _add_nested(found: Tally, node: onnx.NodeProto, around: _Around) -> None:
    """Of an If the branch that takes more; a body as often as it runs, once where that is not known."""
    bodies = [(each.name, each.g) for each in node.attribute if each.HasField("g")]
    if not bodies:
        return
    inner = [_tally(graph, around) for _, graph in bodies]
    if node.op_type == "If":
        heavier = max(inner, key=lambda each: each.total)
        found.add(heavier)
        for lighter in inner:
            if lighter is not heavier:
                found.add_left_out(lighter)
        if any(each.total != heavier.total for each in inner):
            found.notes["Of an If the branch that takes more is counted."] = None
        return
    turns = _turns(node, around)
    if turns is None and any(each.total for each in inner):
        found.notes[f"A {node.op_type} of unknown length is counted as one turn."] = None
    for each in inner:
        found.add(each, 1 if turns is None else turns)


def _turns(node: onnx.NodeProto, around: _Around) -> int | None:
    """How often a Loop or Scan goes round; before opset 9 a Scan does for each sample of a batch, which is axis 0."""
    if node.op_type == "Loop" and node.input and node.input[0] in around.constants:
        held = around.constants[node.input[0]]
        value = np.ravel(array_of(held)) if is_there(held) else np.zeros(0)
        return int(value[0]) if value.size == 1 and 0 <= int(value[0]) < 2**31 else None
    scanned = number(node, "num_scan_inputs", 0)
    if node.op_type != "Scan" or not 0 < scanned <= len(node.input) or around.shapes is None:
        return None
    first = around.shapes.of(node.input[len(node.input) - scanned])
    axes = attribute(node, "scan_input_axes")
    axis = axes[0] if isinstance(axes, list) and axes else 0
    lengths = (first or ())[:2] if around.opset < 9 else (first or ())[axis:][:1]
    turns = 1
    for length in lengths:
        if length is None:
            return None
        turns *= length
    return turns if lengths else None

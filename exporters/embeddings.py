"""Tables of which a Gather looks rows up, in 8 or 4 bits: of a small encoder they are half of the file.

In 8 bits each row has a scale of its own, and the rows that were looked up are multiplied by theirs: standard
operators, and 40 dB where one scale for the table, as ONNX Runtime's quantizer has it, gives as much only if all rows
are alike. In 4 bits it is ONNX Runtime's GatherBlockQuantized.
"""

from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from exporters.operators import attributes_of
from exporters.weights import Names, Scope, Weight, is_standard

_NODE_BYTES = 250
"""What three nodes and two more initializers take, about."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A Gather of rows of a constant ``(rows, width)``."""

    node: onnx.NodeProto
    weight: Weight


def table_of(node: onnx.NodeProto, scope: Scope) -> Table | None:
    """The table in which ``node`` looks up rows that depend on the model's inputs; None for all else."""
    if not is_standard(node, "Gather") or attributes_of(node).get("axis", 0) != 0:
        return None
    weight = scope.find(node.input[0])
    if weight is None or not weight.is_float or len(weight.shape) != 2 or scope.find(node.input[1]) is not None:
        return None
    return Table(node=node, weight=weight)


def pays(table: Table) -> bool:
    """Whether 8 bits and the rows' scales take at most half of the table, and the nodes less than that saves."""
    rows, width = table.weight.shape
    return width >= 4 and rows * (3 * width - 4) > _NODE_BYTES


def lookup(table: Table, stored: str, scales: str, names: Names) -> list[onnx.NodeProto]:
    """The int8 rows of ``stored`` times their ``scales``, which are ``(rows, 1)``."""
    node = table.node
    result, ids = node.output[0], node.input[1]
    row, wide, scale = names.fresh(f"{result}.row"), names.fresh(f"{result}.cast"), names.fresh(f"{result}.scale")
    return [
        helper.make_node("Gather", [stored, ids], [row], name=names.fresh(f"{node.name}.row"), axis=0),
        helper.make_node("Cast", [row], [wide], name=names.fresh(f"{node.name}.cast"), to=TensorProto.FLOAT),
        helper.make_node("Gather", [scales, ids], [scale], name=names.fresh(f"{node.name}.scale"), axis=0),
        helper.make_node("Mul", [wide, scale], [result], name=node.name),
    ]

"""Graphs in the form that converters take, and without what nobody reads, by onnx-ir's passes."""

import numpy as np
import onnx
import onnx_ir
from onnx import numpy_helper
from onnx_ir import passes
from onnx_ir.passes import common

_FIRST_IR_WITH_PLAIN_WEIGHTS = 4  # before it every initializer had to be an input as well


class _OperatorNames:
    """Unnamed nodes are called by their operator: libraries, and users, tell nodes apart by their names."""

    def generate_node_name(self, node: onnx_ir.Node) -> str:
        return node.name or node.op_type

    def generate_value_name(self, value: onnx_ir.Value) -> str:
        return value.name or "value"


def normalized(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with every weight a dense initializer and nothing else, and a name of its own for each node.

    Weights that stand in Constant nodes, or are listed as inputs too, as older exporters do, count as weights; a
    Constant that is an output stays what it is.
    """
    made = _through(
        _dense(model),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.RemoveInitializersFromInputsPass(),
        common.NameFixPass(_OperatorNames()),
    )
    made.ir_version = max(made.ir_version, _FIRST_IR_WITH_PLAIN_WEIGHTS)
    return made


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with a name of its own for each node; unique names stay."""
    return _through(model, common.NameFixPass(_OperatorNames()))


def without_dead_parts(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` without the nodes and weights that no output depends on, in nested graphs too; its interface stays."""
    return _through(model, common.RemoveUnusedNodesPass())


def _through(model: onnx.ModelProto, *steps: passes.PassBase) -> onnx.ModelProto:
    passing = onnx_ir.from_proto(model)
    for step in steps:
        passing = step(passing).model
    made = onnx_ir.to_proto(passing)
    # it states the shapes of weights a second time, as torch.onnx does: wrong once somebody has changed them
    weights = {tensor.name for tensor in made.graph.initializer}
    activations = [value for value in made.graph.value_info if value.name not in weights]
    del made.graph.value_info[:]
    made.graph.value_info.extend(activations)
    return made


def _dense(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without sparse initializers, which onnx-ir 1.1 loses; the model itself where there are none."""
    if not model.graph.sparse_initializer:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    for sparse in graph.sparse_initializer:
        values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
        dense = np.zeros(tuple(sparse.dims), values.dtype)
        places = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), dense.shape)
        dense.reshape(-1)[places] = values
        graph.initializer.append(numpy_helper.from_array(dense, sparse.values.name))
    del graph.sparse_initializer[:]
    return copy

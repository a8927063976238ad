"""Every constant of a model, wherever it stands, and how many bytes its shape says that it has."""

from collections.abc import Iterator

import onnx
from onnx import TensorProto, helper, numpy_helper

from exporters.errors import BadModelFile, NotApplicable

_PACKED_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
_COMPLEX = {TensorProto.COMPLEX64, TensorProto.COMPLEX128}
_OTHER_FLOATS = {TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
_MOST_ELEMENTS = 2**48  # no machine holds more; dims beyond it are damage


def all_tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """The weights and the values inside nodes, of nested graphs and of functions too."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _of_node(node)


def require_fp32(model: onnx.ModelProto, source: object, what: str) -> None:
    """Raise BadModelFile where the weights of ``model`` are of another float type, NotApplicable where it has none.

    ``what`` is what would have been done to them.
    """
    types = {tensor.data_type for tensor in all_tensors(model)}
    if TensorProto.FLOAT in types:
        return
    if others := types & _OTHER_FLOATS:
        names = " and ".join(sorted(TensorProto.DataType.Name(kind).lower() for kind in others))
        raise BadModelFile(f"{source} has no fp32 weights to {what}: they are {names}.", "Give the fp32 model.")
    raise NotApplicable(f"{source} has no fp32 weights to {what}.", "Ship it as it is.")


def bytes_of(tensor: TensorProto) -> int | None:
    """What its dims and type take as raw bytes; None for strings and for types whose layout this does not know.

    Raises ValueError for dims that are negative or beyond any memory, or a type that does not exist.
    """
    elements = elements_of(tensor)
    if tensor.data_type not in TensorProto.DataType.values() or not tensor.data_type:
        raise ValueError(f"its type {tensor.data_type} does not exist")
    name = TensorProto.DataType.Name(tensor.data_type)
    if name == "STRING" or name.startswith("FLOAT6"):
        return None
    if name in _PACKED_BITS:
        return -(-elements * _PACKED_BITS[name] // 8)
    return elements * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def elements_of(tensor: TensorProto) -> int:
    """The number of its elements. Raises ValueError for dims that are negative or beyond any memory."""
    elements = 1
    for axis in tensor.dims:
        if axis < 0:
            raise ValueError(f"its dims {list(tensor.dims)} are negative")
        elements *= axis
    if elements > _MOST_ELEMENTS:
        raise ValueError(f"its dims {list(tensor.dims)} are beyond any memory")
    return elements


def is_packed(tensor: TensorProto) -> bool:
    """Whether several of its elements share a byte."""
    return TensorProto.DataType.Name(tensor.data_type) in _PACKED_BITS


def raw_bytes(tensor: TensorProto) -> bytes:
    """Its values as raw_data has them."""
    return (
        tensor.raw_data
        if tensor.HasField("raw_data")
        else numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data
    )


def damaged(model: onnx.ModelProto, source: object) -> Iterator[BadModelFile]:
    """An error, which calls the model ``source``, for each constant that holds other than its dims and type say."""
    for tensor in all_tensors(model):
        try:
            why = _misfit(tensor)
        except ValueError as error:
            why = str(error)
        if why:
            yield BadModelFile(
                f"The constant '{tensor.name}' in {source} is damaged: {why}.", "Copy or export the model again."
            )


def _misfit(tensor: TensorProto) -> str | None:
    wanted = bytes_of(tensor)
    if tensor.data_location == TensorProto.EXTERNAL:
        return "strings cannot lie in another file" if tensor.data_type == TensorProto.STRING else None
    if tensor.HasField("raw_data"):
        found = len(tensor.raw_data)
        return None if wanted in (None, found) else f"its shape wants {wanted:,} bytes, and it has {found:,}"
    if wanted is None and tensor.data_type != TensorProto.STRING:
        return None
    if TensorProto.DataType.Name(tensor.data_type) in _PACKED_BITS:
        return None
    count = elements_of(tensor) * (2 if tensor.data_type in _COMPLEX else 1)
    values = len(getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type)))
    return None if values == count else f"its shape wants {count:,} values, and it has {values:,}"


def _of_graph(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _of_node(node)


def _of_node(node: onnx.NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            if sparse.HasField("values"):
                yield from (sparse.values, sparse.indices)
        if attribute.HasField("g"):
            yield from _of_graph(attribute.g)
        for graph in attribute.graphs:
            yield from _of_graph(graph)

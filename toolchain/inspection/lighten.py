"""``nnx lighten``: a model without its weights, which fits a bug report, and back.

A weight keeps its name, type and shape, and of its values their mean, spread and reach; its bytes are said to lie in a
file that is not there. What decides shapes stays: whole numbers that are few, and single values.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporters import external_data, large_weights, onnx_file, provenance
from exporters.errors import BadModelFile
from exporters.large_weights import array_of, is_there
from exporters.model_file import ModelFile
from exporters.skeleton import SMALL
from exporters.tensors import all_tensors, bytes_of, elements_of
from toolchain.errors import BadUsage
from toolchain.inspection import shape_deciders
from toolchain.inspection.integer_operators import INTEGER_OPERATORS
from toolchain.inspection.nodes import all_nodes

Array = npt.NDArray[Any]
PLACE = "weights-taken-out-by-nnx-lighten"
"""The file that weights are said to lie in."""
_KEY = "nnx.values"
_FEW = 4
"""Values up to it stay, whatever they are: epsilons, single scales, axes."""
_MOST_KINDS = 8
_WHOLE = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.STRING)
_CHUNK = 1 << 22
_LOOKED_AT = 1 << 12
_TRACES = ("pkg.torch.onnx.stack_trace",)


@dataclass(frozen=True, kw_only=True)
class Light:
    """What was made: ``weights`` were taken out, or put in, ``kept`` constants stayed."""

    path: str
    size_bytes: int
    weights: int
    kept: int
    bytes_of_weights: int
    notes: tuple[str, ...] = ()


def in_words(made: Light, *, filled: bool) -> str:
    """One line on what was written."""
    did = "were put in" if filled else "were taken out"
    return (
        f"{made.path}: {made.size_bytes:,} bytes; {made.weights} weights of {made.bytes_of_weights:,} bytes {did}, "
        f"{made.kept} constants are as they were."
    )


def is_lightened(model: onnx.ModelProto) -> bool:
    """Whether weights of ``model`` were taken out."""
    return any(_is_stub(tensor) for tensor in all_tensors(model))


def lighten(src: ModelFile, dst: Path) -> Light:
    """Write ``src`` without its weights to ``dst``; weights beside it that are missing are no hindrance.

    Raises BadUsage for a file whose weights were taken out already.
    """
    if is_lightened(src.graph):
        raise BadUsage(f"The weights were taken out of {src} already.", "`nnx lighten --fill` puts seeded ones in.")
    made = onnx.ModelProto()
    made.CopyFrom(src.graph)
    _as_tensors(made)
    needed, rounded = _uses(made)
    taken = kept = size = 0
    for tensor, piece in _with_pieces(made, src):
        if _stays(tensor, needed, rounded) and (piece is not None or not _is_beside(tensor)):
            if piece is not None:
                _take_in(tensor, piece)
            kept += 1
            continue
        said = _said(_values(tensor, piece))
        size += bytes_of(tensor) or 0
        stub = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, doc_string=tensor.doc_string)
        stub.data_location = TensorProto.EXTERNAL
        stub.external_data.add(key="location", value=PLACE)
        if said:
            stub.metadata_props.add(key=_KEY, value=json.dumps(said))
        tensor.CopyFrom(stub)
        taken += 1
    provenance.write(made, {"parent_sha256": _hash(src)} if _hash(src) else {})
    onnx_file.save(made, dst)
    return Light(
        path=str(dst), size_bytes=dst.stat().st_size, weights=taken, kept=kept, bytes_of_weights=size,
        notes=tuple(_notes(made)),
    )  # fmt: skip


def fill(src: ModelFile, dst: Path, *, seed: int = 0) -> Light:
    """Write ``src`` to ``dst`` with weights from ``seed`` in the place of those that are not there.

    They have the mean, spread and reach of the original, where the file says them, and else a scale at which signals
    neither grow nor vanish. Raises BadUsage for a file that has all its weights.
    """
    made = onnx.ModelProto()
    made.CopyFrom(src.graph)
    found = _with_pieces(made, src)
    own = len(made.graph.initializer)  # which all_tensors gives first
    missing = [index for index, (tensor, piece) in enumerate(found) if _is_beside(tensor) and piece is None]
    if not missing:
        raise BadUsage(f"{src} has all its weights.", "`nnx lighten` takes them out.")
    deciders = shape_deciders.lost(made)
    lost = [found[index][0].name for index in missing if found[index][0].name in deciders]
    random = np.random.default_rng(seed)
    size = sum(bytes_of(found[index][0]) or 0 for index in missing)
    with large_weights.scratch(wanted=size >= large_weights.LARGE_BYTES):
        for index in missing:
            tensor = found[index][0]
            values, note = _seeded(tensor, random), tensor.doc_string
            make = large_weights.tensor_of if index < own else numpy_helper.from_array
            tensor.CopyFrom(make(values, tensor.name))
            tensor.doc_string = note
        for index, (tensor, piece) in enumerate(found):
            if piece is not None and index < own:
                large_weights.leave(tensor, piece.file, piece.offset, piece.length)
            elif piece is not None:
                _take_in(tensor, piece)
        provenance.write(made, {"filled": f"seed {seed}"})
        onnx_file.save(made, dst)
    written = dst.stat().st_size
    if written < size:  # the weights lie beside it, else reading it again would take their size
        written = ModelFile(dst).size_bytes
    return Light(
        path=str(dst), size_bytes=written, weights=len(missing), kept=len(found) - len(missing),
        bytes_of_weights=size,
        notes=(f"What decides shapes is lost, and filled with numbers: {onnx_file.some(lost)}.",) if lost else (),
    )  # fmt: skip


def _is_beside(tensor: TensorProto) -> bool:
    return not is_there(tensor)


def _is_stub(tensor: TensorProto) -> bool:
    return tensor.data_location == TensorProto.EXTERNAL and any(
        entry.key == "location" and entry.value == PLACE for entry in tensor.external_data
    )


def _with_pieces(model: onnx.ModelProto, src: ModelFile) -> list[tuple[TensorProto, external_data.Piece | None]]:
    """Every constant, those beside the file with their place, if they are there."""
    pieces = iter(list(external_data.pieces_or_faults(model, src.path)))
    found: list[tuple[TensorProto, external_data.Piece | None]] = []
    for tensor in all_tensors(model):
        piece = next(pieces) if _is_beside(tensor) else None
        found.append((tensor, piece if isinstance(piece, external_data.Piece) else None))
    return found


def _bytes(piece: external_data.Piece) -> bytes:
    with piece.file.open("rb") as handle:
        handle.seek(piece.offset)
        return handle.read(piece.length)


def _take_in(tensor: TensorProto, piece: external_data.Piece) -> None:
    tensor.raw_data = _bytes(piece)
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _hash(src: ModelFile) -> str:
    """Empty where weights beside the file are missing."""
    try:
        return src.sha256
    except BadModelFile:
        return ""


def _uses(model: onnx.ModelProto) -> tuple[set[str], set[str]]:
    """The names of (zero points and what decides shapes, which are needed as they are; weights that only look like
    whole numbers)."""
    needed = set(shape_deciders.names_of(model))
    rounded: set[str] = set()
    for placed in all_nodes(model):
        node = placed.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            needed.update(node.input[2:3])
        if node.op_type == "DequantizeLinear":
            rounded.update(node.input[:1])
        if (integers := INTEGER_OPERATORS.get(node.op_type)) is not None:
            rounded.update(node.input[at] for at in integers.bias if at < len(node.input))
    return needed, rounded


def _as_tensors(model: onnx.ModelProto) -> None:
    """Give what Constant nodes hold the form that other weights have, and the name by which it is read."""
    for placed in all_nodes(model):
        for each in placed.node.attribute if placed.node.op_type == "Constant" and placed.node.output else ():
            if each.name == "value":
                each.t.name = placed.node.output[0]
            values: Array | None = None
            if each.name == "value_floats" and len(each.floats) > _FEW:
                values = np.array(each.floats, np.float32)
            elif each.name == "value_ints" and len(each.ints) > SMALL:
                values = np.array(each.ints, np.int64)
            if values is not None:
                each.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(values, placed.node.output[0])))


def _stays(tensor: TensorProto, needed: set[str], rounded: set[str]) -> bool:
    count = elements_of(tensor)
    if tensor.data_type == TensorProto.STRING:
        return True
    if count <= _FEW or tensor.name in needed:
        return True
    return tensor.data_type in _WHOLE and count <= SMALL and tensor.name not in rounded


def _values(tensor: TensorProto, piece: external_data.Piece | None) -> Array | None:
    """None for those that are not there."""
    if not _is_beside(tensor):
        return array_of(tensor)
    if piece is None:
        return None
    copy = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=_bytes(piece))
    return numpy_helper.to_array(copy)


def _said(values: Array | None) -> dict[str, Any]:
    """Of numbers their mean, spread and reach; where they are a few by turns, as in a mask, which those are."""
    if values is None or not values.size:
        return {}
    kinds: set[float] = set()
    total = squares = 0.0
    low, high, count = math.inf, -math.inf, 0
    flat = values.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK].astype(np.float64)
        if len(kinds) <= _MOST_KINDS:
            kinds.update(np.unique(part[:_LOOKED_AT]).tolist())
        if len(kinds) <= _MOST_KINDS:
            kinds.update(np.unique(part).tolist())
        part = part[np.isfinite(part)]
        if part.size:
            total, squares, count = total + float(part.sum()), squares + float((part**2).sum()), count + part.size
            low, high = min(low, float(part.min())), max(high, float(part.max()))
    if len(kinds) <= _MOST_KINDS and flat.size > 2 * _MOST_KINDS:
        return {"among": [str(each) for each in sorted(kinds, key=str)]}
    if not count:
        return {}
    mean = total / count
    return {"mean": mean, "std": math.sqrt(max(squares / count - mean**2, 0.0)), "min": low, "max": high}


def _seeded(tensor: TensorProto, random: np.random.Generator) -> Array:
    shape = tuple(tensor.dims)
    told: dict[str, Any] = {}
    for prop in tensor.metadata_props:
        if prop.key == _KEY:
            told = json.loads(prop.value)
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if "among" in told:
        choices = np.array([float(each) for each in told["among"]])
        return np.asarray(choices[random.integers(0, len(choices), shape)]).astype(dtype)
    is_float = tensor.data_type not in _WHOLE and not helper.tensor_dtype_to_string(tensor.data_type).endswith(
        tuple(f"INT{bits}" for bits in (2, 4, 8, 16, 32, 64))
    )
    mean, spread, low, high = _reach(told, shape, is_float=is_float)
    values = np.clip(random.standard_normal(shape, np.float32) * np.float32(spread) + np.float32(mean), low, high)
    return np.asarray(values if is_float else np.rint(values)).astype(dtype)


def _reach(told: dict[str, Any], shape: tuple[int, ...], *, is_float: bool) -> tuple[float, float, float, float]:
    """Without words on the original: for a matrix or kernel 1 / sqrt(what is summed up), around 1 for a vector."""
    if told:
        return told["mean"], told["std"], told["min"], told["max"]
    if not is_float:
        return 0.0, 0.0, 0.0, 0.0
    if len(shape) < 2:
        return 1.0, 0.1, 0.5, 1.5
    summed = math.prod(shape[1:]) if len(shape) > 2 else max(shape)
    return 0.0, 1 / math.sqrt(max(summed, 1)), -math.inf, math.inf


def _notes(model: onnx.ModelProto) -> Iterator[str]:
    traces = sum(prop.key in _TRACES for placed in all_nodes(model) for prop in placed.node.metadata_props)
    if traces:
        yield f"It still holds {traces} stack traces of its exporter, with paths and lines of source code."

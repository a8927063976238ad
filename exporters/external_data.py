"""Weights that lie in files beside a model: found, measured and read, or refused in a sentence; and written.

A file that somebody sent may name any file, any place in it and any size. Each entry is held against the file that
there is, by the rules of ONNX Runtime 1.31, before memory is taken for it.
"""

import enum
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from exporters import large_weights, one_file
from exporters.errors import BadModelFile, BadOption
from exporters.tensors import all_tensors, bytes_of, raw_bytes

_KEYS = {"location", "offset", "length", "checksum"}
_ALIGNMENT = 4096  # so that a reader can map a weight into memory
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = (
    message.DESCRIPTOR.fields_by_name[name].number
    for message, name in ((onnx.ModelProto, "graph"), (onnx.GraphProto, "initializer"), (TensorProto, "raw_data"))
)
MAX_BYTES = 2**31 - 2**20
"""Above, weights are written beside the model: a reader may add to it (provenance, session settings)."""
_MIN_BYTES = 1024  # smaller constants stay in the model's own file, where shape inference reads them


class Keeping(enum.StrEnum):
    """Where the weights of a file that is written go: into a file beside it above 2 GB, always, or never."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


_keeping: ContextVar[Keeping] = ContextVar("keeping", default=Keeping.AUTO)


@contextmanager
def keeping(how: Keeping) -> Iterator[None]:
    """In this block weights are written as ``how`` says, whoever writes them."""
    before = _keeping.set(how)
    try:
        yield
    finally:
        _keeping.reset(before)


@dataclass(frozen=True)
class Piece:
    """Where the bytes of one tensor lie."""

    tensor: TensorProto
    file: Path
    offset: int
    length: int


class Unreadable(BadModelFile):
    """Weights beside a file could not be read, those of ``tensor`` where it is about one."""

    def __init__(self, what: str, do: str, tensor: str = "") -> None:
        super().__init__(what, do)
        self.tensor = tensor


def pieces(model: onnx.ModelProto, path: Path) -> list[Piece]:
    """What ``model``, whose file is ``path``, keeps in files beside it.

    Raises BadModelFile where ONNX Runtime would refuse it, and where it would read what is not meant: keys that are
    unknown or there twice; a file that is missing, not a regular one or, with links followed, outside the model's
    folder and that of the file which ``path`` links to; an offset or length that is no number, lies outside the file
    or does not fit the tensor's shape.
    """
    found = []
    for piece in pieces_or_faults(model, path):
        if isinstance(piece, Unreadable):
            raise piece
        found.append(piece)
    return found


def pieces_or_faults(model: onnx.ModelProto, path: Path) -> Iterator[Piece | Unreadable]:
    """As :func:`pieces`, but what it would raise takes the place of the piece."""
    sizes: dict[str, int] = {}
    for tensor in all_tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL or large_weights.is_stub(tensor):
            continue
        try:
            yield _piece(tensor, path, sizes)
        except ValueError as error:
            yield unreadable(path, f"of '{tensor.name}', {error}", tensor.name)
        except OSError as error:
            yield unreadable(path, f"of '{tensor.name}', {error.strerror or error}", tensor.name)


def read(model: onnx.ModelProto, path: Path, *, stubs: bool = True) -> None:
    """Take the weights that lie beside ``path`` into ``model``; of many the large ones stay where they are.

    Those become stubs (:mod:`exporters.large_weights`), but for weights of nested graphs, and not without ``stubs``.
    Raises BadModelFile.
    """
    found = pieces(model, path)
    many = stubs and sum(piece.length for piece in found) >= large_weights.LARGE_BYTES
    own = sum(
        tensor.data_location == TensorProto.EXTERNAL and not large_weights.is_stub(tensor)
        for tensor in model.graph.initializer
    )
    for index, piece in enumerate(found):
        if many and index < own and piece.length >= large_weights.MIN_BYTES:  # pieces of the main graph come first
            large_weights.leave(piece.tensor, piece.file, piece.offset, piece.length)
            continue
        try:
            with piece.file.open("rb") as handle:
                handle.seek(piece.offset)
                data = handle.read(piece.length)
        except OSError as error:
            raise unreadable(path, f"'{piece.file.name}': {error.strerror or error}") from error
        if len(data) != piece.length:
            raise unreadable(path, f"'{piece.file.name}' became shorter while it was read")
        piece.tensor.raw_data = data
        piece.tensor.data_location = TensorProto.DEFAULT
        del piece.tensor.external_data[:]


def write(model: onnx.ModelProto, path: Path, beside: Path, *, location: str) -> None:
    """Write ``model`` to ``path`` and its weights to ``beside``, which the model calls ``location``."""
    thin = onnx.ModelProto()
    copy_fields(model, thin, without="graph")
    copy_fields(model.graph, thin.graph, without="initializer")
    with beside.open("wb") as handle:

        def put(tensor: TensorProto, stub: TensorProto) -> None:
            handle.write(b"\0" * (-handle.tell() % _ALIGNMENT))
            start = handle.tell()
            for chunk in large_weights.chunks_of(tensor) if large_weights.is_stub(tensor) else (raw_bytes(tensor),):
                handle.write(chunk)
            place = (("location", location), ("offset", str(start)), ("length", str(handle.tell() - start)))
            stub.CopyFrom(_bare(tensor))
            stub.data_location = TensorProto.EXTERNAL
            for key, value in place:
                stub.external_data.add(key=key, value=value)

        for tensor in all_tensors(thin):
            if _is_large(tensor):
                put(tensor, tensor)
        for tensor in model.graph.initializer:
            if _is_large(tensor):
                put(tensor, thin.graph.initializer.add())
            else:
                thin.graph.initializer.append(tensor)
    path.write_bytes(thin.SerializeToString())


def write_whole(model: onnx.ModelProto, path: Path) -> None:
    """Write ``model`` with all its weights to one file, which holds 2 GB; stubs are copied part by part.

    As protobuf writes it, but for the order of fields: the weights stand at the end of the graph, which is the end of
    the model.
    """
    thin = onnx.ModelProto()
    copy_fields(model, thin, without="graph")
    copy_fields(model.graph, thin.graph, without="initializer")
    graph = thin.graph.SerializeToString()
    thin.ClearField("graph")
    heads = [_head(tensor) for tensor in model.graph.initializer]
    lengths = [
        len(head) + (bytes_of(tensor) or 0 if large_weights.is_stub(tensor) else 0)
        for head, tensor in zip(heads, model.graph.initializer, strict=True)
    ]
    fields = [_tag(_GRAPH_INITIALIZER, length) for length in lengths]
    total = len(graph) + sum(map(len, fields)) + sum(lengths)
    with path.open("wb") as handle:
        handle.write(thin.SerializeToString() + _tag(_MODEL_GRAPH, total) + graph)
        for field, head, tensor in zip(fields, heads, model.graph.initializer, strict=True):
            handle.write(field + head)
            if large_weights.is_stub(tensor):
                for chunk in large_weights.chunks_of(tensor):
                    handle.write(chunk)


def _head(tensor: TensorProto) -> bytes:
    """``tensor`` as protobuf writes it; of a stub all but the bytes that are its last field then."""
    if not large_weights.is_stub(tensor):
        return bytes(tensor.SerializeToString())
    return bytes(_bare(tensor).SerializeToString()) + _tag(_TENSOR_RAW_DATA, bytes_of(tensor) or 0)


def _bare(tensor: TensorProto) -> TensorProto:
    """All of it but its values and their place."""
    made = TensorProto(
        name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, metadata_props=tensor.metadata_props
    )
    if tensor.doc_string:
        made.doc_string = tensor.doc_string
    return made


def _tag(number: int, length: int) -> bytes:
    """How protobuf begins the field ``number``, of ``length`` bytes."""
    made = bytearray([number << 3 | 2])
    while length > 0x7F:
        made.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes(made) + bytes([length])


def data_path(path: Path) -> Path:
    """The file of weights beside ``path``, where nothing is there yet."""
    return data_names(path)[0]


def data_names(path: Path) -> tuple[Path, Path]:
    """The two names for weights beside ``path``; beside a temporary file, names by which leftovers are known too."""
    if path.name.endswith(".partial"):
        return path.with_name(f".data{path.name}"), path.with_name(f".data.2{path.name}")
    return path.with_name(f"{path.name}.data"), path.with_name(f"{path.name}.2.data")


def fresh_data_path(path: Path) -> Path:
    """Where the weights of a new model at ``path`` go: the one of two names that the model there does not read."""
    first, second = data_names(path)
    return second if data_of(path) == first else first


def data_of(path: Path) -> Path | None:
    """The file by one of our two names in which the model at ``path`` has its weights, if it is there and has."""
    names = data_names(path)
    if not any(name.exists() for name in names):
        return None
    try:
        model = one_file.load(path)
    except (OSError, DecodeError):
        return None
    places = {entry.value for tensor in all_tensors(model) for entry in tensor.external_data if entry.key == "location"}
    return next((name for name in names if name.name in places), None)


def goes_beside(model: onnx.ModelProto) -> bool:
    """Whether the weights of ``model`` are to be written into a file of their own.

    Raises BadOption where they may not be, and one file cannot hold them.
    """
    size, how = size_of(model), _keeping.get()
    if how is Keeping.NEVER and size > MAX_BYTES:
        raise BadOption(
            f"The model takes {size / 1e9:.2f} GB, and one file holds {MAX_BYTES / 1e9:.2f}.",
            "Let its weights lie beside it: --external-data auto.",
        )
    return size > MAX_BYTES or (how is Keeping.ALWAYS and any(_is_large(each) for each in all_tensors(model)))


def size_of(model: onnx.ModelProto) -> int:
    """About how many bytes ``model`` takes in a file: protobuf tells it by writing it, and fails above 2 GB."""
    thin = onnx.ModelProto()
    copy_fields(model, thin, without="graph")
    copy_fields(model.graph, thin.graph, without="initializer")
    weights = model.graph.initializer
    return int(thin.ByteSize()) + sum(
        bytes_of(tensor) or 0 if _is_large(tensor) else int(tensor.ByteSize()) for tensor in weights
    )


def rename(path: Path, location: str) -> None:
    """Let the model in ``path`` look for its weights, all of which lie in one file, in ``location``."""
    model = onnx.load(path, load_external_data=False)
    for tensor in all_tensors(model):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())


def unreadable(path: Path, why: str, tensor: str = "") -> Unreadable:
    """The error about weights that should lie beside ``path``."""
    return Unreadable(
        f"{path} keeps weights in a file beside it that could not be read: {why}.",
        "Copy the external data file into the same folder, or export the model again.",
        tensor,
    )


def copy_fields(
    source: onnx.ModelProto | onnx.GraphProto, made: onnx.ModelProto | onnx.GraphProto, *, without: str
) -> None:
    """Copy every field of a message but one, whose bytes are not even looked at."""
    for field, value in source.ListFields():
        if field.name == without:
            continue
        if isinstance(value, (str, bytes, int)):
            setattr(made, field.name, value)
        else:
            getattr(made, field.name).MergeFrom(value)


def _is_large(tensor: TensorProto) -> bool:
    if large_weights.is_stub(tensor):
        return True
    if tensor.data_location == TensorProto.EXTERNAL or tensor.data_type == TensorProto.STRING:
        return False
    size = bytes_of(tensor)
    return size is not None and size >= _MIN_BYTES


def _piece(tensor: TensorProto, path: Path, sizes: dict[str, int]) -> Piece:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) < len(tensor.external_data):
        raise ValueError("its place is given twice")
    if unknown := sorted(set(entries) - _KEYS):
        raise ValueError(f"its place has the unknown key '{unknown[0]}'")
    location = entries.get("location", "")
    if location not in sizes:
        sizes[location] = _size_of(location, path)
    wanted = bytes_of(tensor)
    if wanted is None:
        raise ValueError("its type cannot lie in another file")
    offset, length = _number(entries, "offset", 0), _number(entries, "length", wanted)
    if length != wanted:
        raise ValueError(f"the shape wants {wanted:,} bytes, and {length:,} are named")
    if offset + length > sizes[location]:
        raise ValueError(f"it ends at byte {offset + length:,} of '{location}', which has {sizes[location]:,}")
    return Piece(tensor, path.parent / location, offset, length)


def _number(entries: dict[str, str], key: str, otherwise: int) -> int:
    text = entries.get(key)
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(f"its {key} is no number: '{text[:20]}'")
    return int(text)


def _size_of(location: str, path: Path) -> int:
    if not location or "\0" in location:
        raise ValueError("no file is named")
    if Path(location).is_absolute() or location.startswith("\\"):
        raise ValueError(f"'{location}' is no place in the model's folder")
    file = path.parent / location
    if not file.exists():
        raise ValueError(f"there is no '{location}' in its folder")
    allowed = (path.parent.resolve(), path.resolve().parent)
    if not any(file.resolve().is_relative_to(folder) for folder in allowed):
        raise ValueError(f"'{location}' lies outside the model's folder")
    facts = file.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError(f"'{location}' is no regular file")
    return facts.st_size


def files_of(found: Sequence[Piece]) -> tuple[Path, ...]:
    """The files in which pieces lie, in the order of their names."""
    return tuple(sorted({piece.file for piece in found}))

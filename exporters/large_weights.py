"""Large weights outside the messages that name them: they stay in files, and are read when they are asked for.

protobuf copies every byte of a weight with the graph that it stands in, and gives no byte back before all of that graph
goes: a model of 2.4 GB took 10.6 GB on its way to int8. Here a tensor is a stub, which says where its bytes lie: in the
source's own file, or in one that a step fills while it runs. Copies of a graph then cost nothing, and each weight is in
memory while somebody computes with it.

A stub is external data in ONNX's form. Its location begins with a word that this process made up, which no file that
somebody sent can hold: stubs are read from wherever they say, the others only from the model's folder.
"""

import copyreg
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporters.errors import BadModelFile, NotConvertible
from exporters.tensors import bytes_of, is_packed

Array = npt.NDArray[Any]
LARGE_BYTES = 2**26
"""Of a model's weights beside it: those of a smaller one are taken into memory."""
MIN_BYTES = 2**16
"""Of a tensor that becomes a stub."""
_CHUNK_BYTES = 1 << 24
_MESSAGE_BYTES = 2**31 - 2**20
_OURS = secrets.token_hex(16) + ":"
_open: ContextVar["_Scratch | None"] = ContextVar("scratch", default=None)


class _Scratch:
    """A file that grows."""

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, 0

    def put(self, array: Array) -> int:
        """Append the bytes of ``array``; return their place."""
        place = self.size
        with self.path.open("ab") as handle:
            array.tofile(handle)
        self.size += array.nbytes
        return place


@contextmanager
def scratch(wanted: bool = True) -> Iterator[None]:
    """In this block large new tensors become stubs, if that is ``wanted``; at its end their bytes are gone."""
    if not wanted:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="nnx-weights-") as folder, filling(Path(folder)):
        yield


@contextmanager
def filling(folder: Path | None) -> Iterator[None]:
    """In this block large new tensors become stubs, and their bytes stay in ``folder``; without one nothing changes."""
    if folder is None:
        yield
        return
    file = folder / f"{secrets.token_hex(8)}.weights"
    file.touch()
    before = _open.set(_Scratch(file))
    try:
        yield
    finally:
        _open.reset(before)


def folder_for(owner: object) -> Path:
    """A new folder that goes with ``owner``, at the end of the process at the latest."""
    folder = tempfile.mkdtemp(prefix="nnx-weights-")
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@contextmanager
def lasting(prefix: str) -> Iterator[Path]:
    """A folder for what stubs point to: that of :func:`scratch`, which lasts as long; else one for this block."""
    if (current := _open.get()) is not None:
        yield Path(tempfile.mkdtemp(prefix=prefix, dir=current.path.parent))
        return
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        yield Path(folder)


def is_open() -> bool:
    """Whether a block of :func:`scratch` runs, in which large new tensors become stubs."""
    return _open.get() is not None


def leave(tensor: TensorProto, file: Path, offset: int, length: int) -> None:
    """Make ``tensor`` a stub of ``length`` bytes from ``offset`` on in ``file``."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", f"{_OURS}{Path.cwd() / file}"), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def is_stub(tensor: TensorProto) -> bool:
    """Whether its bytes lie elsewhere, by :func:`leave`."""
    return tensor.data_location == TensorProto.EXTERNAL and any(
        entry.key == "location" and entry.value.startswith(_OURS) for entry in tensor.external_data
    )


def is_there(tensor: TensorProto) -> bool:
    """Whether :func:`array_of` has its values: in the graph, or as a stub; what lies beside it unread is not."""
    return tensor.data_location != TensorProto.EXTERNAL or is_stub(tensor)


def has_stubs(model: onnx.ModelProto) -> bool:
    """Whether weights of the main graph lie elsewhere."""
    return any(is_stub(tensor) for tensor in model.graph.initializer)


def array_of(tensor: TensorProto) -> Array:
    """The values of ``tensor``, wherever they lie. Raises BadModelFile where a file is gone or shorter by now."""
    if not is_stub(tensor):
        return numpy_helper.to_array(tensor)
    if is_packed(tensor):
        held = TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=b"".join(chunks_of(tensor)))
        return numpy_helper.to_array(held)
    array = np.empty(tuple(tensor.dims), helper.tensor_dtype_to_np_dtype(tensor.data_type))
    flat, filled = array.reshape(-1).view(np.uint8), 0
    for chunk in chunks_of(tensor):
        flat[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
        filled += len(chunk)
    return array


def tensor_of(array: Array, name: str) -> TensorProto:
    """``array`` as a tensor: a stub where it is large and a block of :func:`scratch` runs."""
    file = _open.get()
    if file is None or array.nbytes < MIN_BYTES or array.dtype == object:
        return numpy_helper.from_array(array, name)
    made = TensorProto(name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype))
    if bytes_of(made) != array.nbytes:
        return numpy_helper.from_array(array, name)  # of a type that ONNX packs
    leave(made, file.path, file.put(np.ascontiguousarray(array)), array.nbytes)
    return made


def turn(tensor: TensorProto, array: Array, name: str) -> None:
    """Give ``tensor`` other values, and a name; in memory where its own are."""
    tensor.CopyFrom(tensor_of(array, name) if is_stub(tensor) else numpy_helper.from_array(array, name))


def chunks_of(tensor: TensorProto) -> Iterator[bytes]:
    """The bytes of a stub, part by part. Raises BadModelFile where its file is gone or shorter by now."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    file, left = Path(entries["location"].removeprefix(_OURS)), int(entries["length"])
    try:
        with file.open("rb") as handle:
            handle.seek(int(entries["offset"]))
            while left:
                chunk = handle.read(min(left, _CHUNK_BYTES))
                if not chunk:
                    raise _changed(file, "it became shorter while it was read")
                left -= len(chunk)
                yield chunk
    except OSError as error:
        raise _changed(file, error.strerror or str(error)) from error


def _changed(file: Path, why: str) -> BadModelFile:
    return BadModelFile(
        f"The weights in {file} could not be read: {why}.", "Leave the model alone while it is converted."
    )


def _packed(model: onnx.ModelProto) -> tuple[Any, tuple[bytes]]:
    """A model on its way to another process, maybe on another machine, has all its weights in it.

    Raises NotConvertible where it is more than a message may hold.
    """
    if has_stubs(model):
        if sum(bytes_of(tensor) or 0 for tensor in model.graph.initializer) >= _MESSAGE_BYTES:
            raise NotConvertible(
                "A model of 2 GB or more cannot be handed to another process.", "Convert it in one, without --ray."
            )
        whole = onnx.ModelProto()
        whole.CopyFrom(model)
        for tensor in filter(is_stub, whole.graph.initializer):
            data = b"".join(chunks_of(tensor))
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = data
        model = whole
    return onnx.ModelProto.FromString, (model.SerializeToString(),)


copyreg.pickle(onnx.ModelProto, _packed)

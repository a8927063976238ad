"""The weights of a large module in files, mapped into memory: the kernel reads their pages when they are used.

An export has the module and a session of ONNX Runtime beside each other, to compare them. A module's own memory would
be the weights once more, and the file that is written a third time. In files they can go out of memory after each layer
(:func:`passing`), and are written from there without another copy (:func:`left_in_file`).
"""

import mmap
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import torch
from onnx import TensorProto

from exporters import large_weights, one_file
from exporters.tensors import bytes_of

_KINDS = (torch.Tensor, torch.nn.Parameter)


@dataclass(frozen=True)
class _InFiles:
    """By the address of a storage, the file that it is mapped from, and the mapping."""

    folder: Path
    of: dict[int, tuple[Path, mmap.mmap]] = field(default_factory=dict)

    def move(self, storage: torch.UntypedStorage) -> torch.UntypedStorage:
        """The same bytes, in a file of their own."""
        file = self.folder / f"{len(self.of)}.weights"
        with file.open("wb+") as handle:
            torch.empty(0, dtype=torch.uint8).set_(storage).numpy().tofile(handle)
            handle.flush()
            mapping = mmap.mmap(handle.fileno(), 0)
        made = torch.frombuffer(mapping, dtype=torch.uint8).untyped_storage()
        self.of[made.data_ptr()] = file, mapping
        return made

    def let_go(self, storages: Iterable[int] | None = None) -> None:
        """Give the memory back that pages of these files take, of all without ``storages``, until they are used."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for each in self.of if storages is None else storages:
                if each in self.of:
                    self.of[each][1].madvise(mmap.MADV_DONTNEED)


_open: ContextVar[_InFiles | None] = ContextVar("torch_weights", default=None)


@contextmanager
def in_files(module: torch.nn.Module) -> Iterator[None]:
    """In this block, and from then on, the weights of ``module`` are mapped from files, if they are large together.

    It is the same module, with tied weights tied: what is written to a weight is written to its file. The files have no
    name any more after the block, and go with the module.
    """
    if sum(storage.nbytes() for storage in _storages(module).values()) < one_file.LARGE_BYTES:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="nnx-module-", ignore_cleanup_errors=True) as folder:
        held = _InFiles(Path(folder))
        _move(module, held)
        before = _open.set(held)
        try:
            with large_weights.filling(Path(folder)):  # for what an exporter makes of them
                yield
        finally:
            _open.reset(before)


def _storages(module: torch.nn.Module) -> dict[int, torch.UntypedStorage]:
    """Those of plain tensors in this process's memory, by their addresses."""
    found = (value.untyped_storage() for value in _values(module))
    return {storage.data_ptr(): storage for storage in found if storage.nbytes() >= large_weights.MIN_BYTES}


def _values(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    for value in (*module.parameters(), *module.buffers()):
        if type(value) in _KINDS and value.layout is torch.strided and value.device.type == "cpu":
            yield value


def _move(module: torch.nn.Module, held: _InFiles) -> None:
    """One storage after another, and every tensor that looks at it: the memory of each goes before the next."""
    looking: dict[int, list[torch.Tensor]] = {}
    for value in _values(module):
        looking.setdefault(value.untyped_storage().data_ptr(), []).append(value)
    for address, storage in list(_storages(module).items()):
        moved = held.move(storage)
        for value in looking[address]:
            made = torch.empty(0, dtype=value.dtype)
            made.set_(moved, value.storage_offset(), value.shape, value.stride())
            value.data = made


@contextmanager
def passing() -> Iterator[None]:
    """In this block what lies in files leaves memory again after each layer that used it."""
    held = _open.get()
    if held is None:
        yield
        return

    def let_go(layer: torch.nn.Module, given: Any, result: Any) -> None:
        own = (*layer.parameters(recurse=False), *layer.buffers(recurse=False))
        held.let_go(value.untyped_storage().data_ptr() for value in own)

    hook = torch.nn.modules.module.register_module_forward_hook(let_go)
    try:
        yield
    finally:
        hook.remove()


def left_in_file(value: torch.Tensor, name: str, data_type: int) -> TensorProto | None:
    """``value`` as a stub for where it lies in a file; None where it does not, or not as ONNX writes it."""
    held = _open.get()
    found = held and held.of.get(value.untyped_storage().data_ptr())
    made = TensorProto(name=name, data_type=data_type, dims=value.shape)
    if not found or not value.is_contiguous() or bytes_of(made) != value.nbytes:
        return None
    large_weights.leave(made, found[0], int(value.storage_offset()) * value.element_size(), value.nbytes)
    return made


def proto_of(model: onnx_ir.Model) -> onnx.ModelProto:
    """What torch.onnx made, as protobuf: in a block of :func:`in_files` with large weights as stubs."""
    held, left = _open.get(), []
    for name, value in model.graph.initializers.items() if held is not None else ():
        tensor = value.const_value
        if tensor is None or tensor.nbytes < large_weights.MIN_BYTES or tensor.dtype == onnx_ir.DataType.STRING:
            continue
        raw = getattr(tensor, "raw", None)
        stub = left_in_file(raw, name, int(tensor.dtype)) if isinstance(raw, torch.Tensor) else None
        left.append(stub or large_weights.tensor_of(tensor.numpy(), name))  # the exporter turns weights of products
        value.const_value = None  # it is left out, and logged
        assert held is not None
        held.let_go()
    made: onnx.ModelProto = onnx_ir.serde.serialize_model(model)
    made.graph.initializer.extend(left)
    return made

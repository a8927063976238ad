"""One ``.onnx`` file, opened once and handed on with all that is asked of it."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from exporters import cleaning, external_data, finite, large_weights, onnx_file, provenance
from exporters.atomic_file import sha256_of
from exporters.batch_axes import BatchAxes
from exporters.errors import BadModelFile

_FACTS = ("external_files", "opset", "ir_version", "precision", "inputs", "outputs", "batch_axes", "facts")


@dataclass(frozen=True)
class Value:
    """One input or output: ``dtype`` as numpy names it, or as ONNX does what numpy has no name for.

    ``shape`` holds a number for a fixed axis, a name for a dynamic one ("?" without one).
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class ModelFile:
    """An ``.onnx`` file and the files beside it that hold its weights.

    Making one reads the graph, and raises BadModelFile when ``path`` is missing, truncated or not ONNX. The weights
    beside it are read when :attr:`proto` is first asked for, and the hash is taken when it is; nothing is read twice,
    but after :meth:`release`. The file is taken not to change: whoever writes it anew makes another ModelFile.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._graph: onnx.ModelProto | None = onnx_file.read(path)
        self._whole = False

    @classmethod
    def of(cls, model: onnx.ModelProto, path: Path) -> "ModelFile":
        """``model``, weights and all, as the file that it is or will be written to."""
        made = cls.__new__(cls)
        made.path, made._graph, made._whole = path, model, True
        return made

    def __str__(self) -> str:
        return str(self.path)

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which need not see the file: with the weights, and with what is known of it."""
        for fact in (*_FACTS, "sha256", "size_bytes"):
            getattr(self, fact)
        own = {name: value for name, value in vars(self).items() if name not in ("_normalized", "_scratch")}
        return own | {"_graph": self.proto, "_whole": True}

    @property
    def graph(self) -> onnx.ModelProto:
        """The model, weights that lie beside it not necessarily read: to be read, not to be changed."""
        return self._read()

    @property
    def proto(self) -> onnx.ModelProto:
        """The model with all its weights, by :func:`large_weights.array_of`: to be read, not to be changed."""
        graph = self._read()
        if not self._whole:
            if self.external_files:  # which the graph does not name any more once they are read
                external_data.read(graph, self.path)
            self._whole = True
        return graph

    def release(self) -> None:
        """Let the graph go where others need the memory: its facts stay, and the file is read again if it must be."""
        for fact in _FACTS:
            getattr(self, fact)
        self.__dict__.pop("_normalized", None)
        self._graph, self._whole = None, False

    def _read(self) -> onnx.ModelProto:
        if self._graph is None:
            self._graph = onnx_file.read(self.path)
        return self._graph

    @property
    def normal(self) -> onnx.ModelProto:
        """:attr:`proto` in the form that converters take (:func:`cleaning.normalized`): to be read, not to be changed.

        Raises BadModelFile for a graph that contradicts itself.
        """
        return self._normalized.model

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not in :attr:`normal` as it was in the file, in sentences."""
        return self._normalized.notes

    @cached_property
    def _normalized(self) -> cleaning.Normal:
        with large_weights.filling(self._scratch):
            return cleaning.normalized(self.proto, self)

    @cached_property
    def _scratch(self) -> Path | None:
        """Where weights of :attr:`normal` lie that are not as in the file, if that is large; gone when this is."""
        return large_weights.folder_for(self) if self.has_stubs else None

    @property
    def has_stubs(self) -> bool:
        """Whether its large weights stay in its files: :mod:`exporters.large_weights`."""
        return large_weights.has_stubs(self.proto)

    def require_fp32(self) -> None:
        """Raise BadModelFile unless it computes in fp32: its weights may be stored in half precision."""
        stored = self.precision == "fp16" and not self._normalized.was_half
        if self.precision != "fp32" and not (stored and onnx_file.precision_of(self.normal) == "fp32"):
            raise BadModelFile(f"{self} is {self.precision} already.", "Give the fp32 model.")

    def to_convert(self, least_opset: int = 0) -> onnx.ModelProto:
        """A copy of :attr:`normal` to work on, raised to ``least_opset``.

        Raises NotConvertible where it cannot be, BadModelFile for weights that are no numbers.
        """
        _ = self._finite
        made = onnx.ModelProto()
        made.CopyFrom(cleaning.raised(self.normal, least_opset, self))
        return made

    @cached_property
    def _finite(self) -> None:
        finite.require_finite(self.normal, self)

    @cached_property
    def external_files(self) -> tuple[Path, ...]:
        """The files beside it that hold weights, in the order of their names.

        Raises BadModelFile for what :func:`external_data.pieces` refuses.
        """
        graph = self._read()
        if large_weights.has_stubs(graph):  # a model that was given by `of`, whose own weights are in the file by now
            graph = onnx_file.read(self.path)
        return external_data.files_of(external_data.pieces(graph, self.path))

    @cached_property
    def sha256(self) -> str:
        """The hex SHA-256 of the file; with weights beside it, that of the hashes of all its files, by their names."""
        own = sha256_of(self.path)
        if not self.external_files:
            return own
        lines = [f"{sha256_of(file)} {file.relative_to(self.path.parent)}" for file in self.external_files]
        return hashlib.sha256("\n".join([own, *lines]).encode()).hexdigest()

    @cached_property
    def size_bytes(self) -> int:
        """What all its files take on disk."""
        return sum(file.stat().st_size for file in (self.path, *self.external_files))

    @cached_property
    def opset(self) -> int:
        """The version of the default operator set."""
        return onnx_file.opset_of(self._read())

    @cached_property
    def ir_version(self) -> int:
        """The version of the file format."""
        return int(self._read().ir_version)

    @cached_property
    def precision(self) -> str:
        """fp32, fp16, bf16, int4, int8-static or int8-dynamic."""
        return onnx_file.precision_of(self._read())

    @cached_property
    def inputs(self) -> tuple[Value, ...]:
        """Weights that are listed as inputs apart."""
        names = set(onnx_file.interface_of(self._read())[0])
        return tuple(value_of(value) for value in self._read().graph.input if value.name in names)

    @cached_property
    def outputs(self) -> tuple[Value, ...]:
        return tuple(value_of(value) for value in self._read().graph.output)

    @cached_property
    def batch_axes(self) -> BatchAxes:
        """Which axis of each input and output counts samples."""
        return BatchAxes.of(self._read())

    @property
    def fixed_batch(self) -> int | None:
        """The length of the batch axis, None where it is dynamic or there is none."""
        return self.batch_axes.fixed

    @cached_property
    def facts(self) -> dict[str, str]:
        """What nnx wrote into the file about its making: :mod:`exporters.provenance`."""
        return provenance.read(self._read())


def value_of(value: onnx.ValueInfoProto) -> Value:
    """An input or output as the graph states it."""
    tensor = value.type.tensor_type
    shape = tuple(
        axis.dim_value if axis.dim_value >= 0 and axis.HasField("dim_value") else axis.dim_param or "?"
        for axis in tensor.shape.dim
    )
    return Value(value.name, _dtype(value.type), shape)


def _dtype(kind: onnx.TypeProto) -> str:
    if not kind.HasField("tensor_type"):
        return f"{kind.WhichOneof('value') or 'unknown'}"
    number = kind.tensor_type.elem_type
    if number in (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED):
        return f"tensor({onnx.TensorProto.DataType.Name(number).lower()})"
    dtype = helper.tensor_dtype_to_np_dtype(number)
    return dtype.name if dtype.isbuiltin == 1 else f"tensor({dtype.name})"

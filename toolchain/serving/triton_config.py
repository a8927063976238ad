"""Triton's ``config.pbtxt``: what its ONNX Runtime backend is told of a model, in protobuf's text format.

https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto, and what the backend reads of
it: https://github.com/triton-inference-server/onnxruntime_backend. Strict: nothing is left for Triton to complete.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from toolchain.serving.protocol import Interface
from toolchain.serving.tensors import DATATYPES
from toolchain.shipping.package import Tensor

_LEVELS = {"enable_basic": -1, "enable_extended": 1, "disable_all": 2}
"""What the backend calls the graph optimization levels of ONNX Runtime; all of them are its default."""


@dataclass(frozen=True, kw_only=True)
class Warmup:
    """A request that Triton makes before a model is ready, ``rows`` times the sample in each of ``files`` (by input).

    ``shapes`` are those of the sample, without the batch where there is one.
    """

    name: str
    rows: int
    files: Mapping[str, str]
    shapes: Mapping[str, Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class Config:
    """``most_rows`` of a batch, 0 where the model has none of any length; ``labels`` is a file, by output.

    ``settings`` are the session's configuration entries that the package has for the model.
    """

    interface: Interface
    most_rows: int
    threads: int
    settings: Mapping[str, str]
    warmups: Sequence[Warmup]
    labels: Mapping[str, str]

    @property
    def unknown(self) -> list[str]:
        """The settings that Triton's backend has no words for."""
        return sorted(entry for entry, value in self.settings.items() if not _told(entry, value))


_GRAPH = "session.graph_optimization_level"
_PARAMETERS = {
    "session.execution_mode": ("execution_mode", {"sequential": "0", "parallel": "1"}),
    "session.enable_mem_pattern": ("enable_mem_pattern", {"0": "0", "1": "1"}),
}


def _told(entry: str, value: str) -> bool:
    return value in (_LEVELS if entry == _GRAPH else _PARAMETERS[entry][1] if entry in _PARAMETERS else {})


def text(config: Config) -> str:
    """The file."""
    lines = [
        f"name: {quoted(config.interface.name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {config.most_rows}",
    ]
    for kind, tensors in (("input", config.interface.inputs), ("output", config.interface.outputs)):
        for tensor in tensors.values():
            lines += _block(kind, _tensor(config, tensor))
    if config.most_rows:
        lines.append("dynamic_batching { }")
    lines.append("instance_group { count: 1 kind: KIND_CPU }")
    if (level := _LEVELS.get(config.settings.get(_GRAPH, ""))) is not None:
        lines.append(f"optimization {{ graph {{ level: {level} }} }}")
    for key, value in _parameters(config).items():
        lines.append(f"parameters {{ key: {quoted(key)} value {{ string_value: {quoted(value)} }} }}")
    for warmup in config.warmups:
        lines += _block("model_warmup", _warmup(config, warmup))
    return "\n".join(lines) + "\n"


def quoted(value: str) -> str:
    """A string in protobuf's text format, whatever is in it."""
    return '"' + "".join(_escaped(byte) for byte in value.encode()) + '"'


def _escaped(byte: int) -> str:
    plain = 0x20 <= byte < 0x7F and chr(byte) not in '"\\'
    return chr(byte) if plain else f"\\{byte:03o}"


def _block(kind: str, lines: Sequence[str]) -> list[str]:
    return [f"{kind} {{", *(f"  {line}" for line in lines), "}"]


def _tensor(config: Config, tensor: Tensor) -> list[str]:
    shape = tensor.shape[1:] if config.most_rows else tensor.shape
    dims = [axis if isinstance(axis, int) else -1 for axis in shape]
    lines = [f"name: {quoted(tensor.name)}", f"data_type: {_data_type(tensor)}", f"dims: {_dims(dims)}"]
    if tensor.name in config.labels:
        lines.append(f"label_filename: {quoted(config.labels[tensor.name])}")
    return lines


def _data_type(tensor: Tensor) -> str:
    return f"TYPE_{DATATYPES[tensor.dtype]}"


def _dims(dims: Sequence[int]) -> str:
    return f"[ {', '.join(map(str, dims))} ]"


def _parameters(config: Config) -> dict[str, str]:
    found = {"intra_op_thread_count": str(config.threads)}
    for entry, (key, values) in _PARAMETERS.items():
        if (value := config.settings.get(entry)) in values:
            found[key] = values[value]
    if found.get("execution_mode") == "1":
        found["inter_op_thread_count"] = str(config.threads)
    return found


def _warmup(config: Config, warmup: Warmup) -> list[str]:
    lines = [f"name: {quoted(warmup.name)}", f"batch_size: {warmup.rows}"]
    for name, file in warmup.files.items():
        tensor = config.interface.inputs[name]
        value = [
            f"data_type: {_data_type(tensor)}",
            f"dims: {_dims(warmup.shapes[name])}",
            f"input_data_file: {quoted(file)}",
        ]
        lines += _block("inputs", [f"key: {quoted(name)}", *_block("value", value)])
    return lines

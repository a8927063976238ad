"""What tensors inside a model are, on given inputs."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from exporters import onnx_file
from runtimes.base import Arrays, TensorSpec, run
from runtimes.errors import NotLoadable
from runtimes.ort import OrtRuntime
from toolchain.layers import probes


@dataclass(frozen=True)
class Tap:
    """A tensor to look at: ``dtype`` as numpy or ONNX Runtime names it; ``quantizer`` the node that rounds it."""

    tensor: str
    dtype: str
    quantizer: onnx.NodeProto | None = None


_HALVES = {"tensor(float16)": "float16", "tensor(bfloat16)": "tensor(bfloat16)"}
"""Of half the bits: fp32 holds each of their values."""
_NOT_IN_NUMPY = frozenset(f"tensor({kind})" for kind in ("bfloat16", "int4", "uint4", "int2", "uint2", "float4e2m1"))


class NotReadable(Exception):
    """An output is of a type that numpy does not have."""


def tapped(model: onnx.ModelProto, taps: Sequence[Tap]) -> tuple[onnx.ModelProto, list[str]]:
    """(``model`` with these outputs alone, in fp32 where they are rounded or of half the bits; their names)."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.output[:]
    names = []
    for index, tap in enumerate(taps):
        dtype = _HALVES.get(tap.dtype, "float32")
        nodes, name = probes.tap(tap.tensor, dtype, tap.quantizer, prefix=f"nnx tap {index}/")
        made.graph.node.extend(nodes)
        if name not in names:
            made.graph.output.append(onnx.ValueInfoProto(name=name))
        names.append(name)
    return made, names


@contextlib.contextmanager
def opened(model: onnx.ModelProto, source: str = "the model") -> Iterator[OrtRuntime]:
    """``model``, which errors call ``source``, in a session on the CPU, from a temporary file that is removed.

    Raises NotReadable for an output that nobody could read.
    """
    with contextlib.ExitStack() as stack:
        with tempfile.TemporaryDirectory(prefix="nnx-probe-") as folder:
            path = onnx_file.write(model, Path(folder) / "probe.onnx")
            try:
                runtime = stack.enter_context(OrtRuntime(path, precise=True))
            except NotLoadable as refused:
                raise NotLoadable(refused.what.replace(str(path), source), refused.do) from refused
        if any(output.dtype in _NOT_IN_NUMPY for output in runtime.outputs):
            raise NotReadable
        yield runtime


def results(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> Arrays:
    """The outputs of one run."""
    with opened(model) as runtime:
        return run(runtime, fitted(feeds, runtime.inputs))


def fitted(feeds: Mapping[str, Any], specs: Sequence[TensorSpec]) -> dict[str, Any]:
    """Of ``feeds`` those that are taken, floats in the precision that is."""
    return {
        spec.name: feeds[spec.name].astype(spec.dtype)
        if spec.dtype.startswith("float") and feeds[spec.name].dtype.kind == "f"
        else feeds[spec.name]
        for spec in specs
        if spec.name in feeds
    }

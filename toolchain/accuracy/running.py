"""What a model file gives, call by call, for comparing it."""

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from exporters import onnx_file
from exporters.batch_axes import BatchAxes
from exporters.feeds import SampleSet, calls, count_of, parts
from exporters.half.emulation import emulated
from exporters.model_file import ModelFile
from runtimes.base import run
from runtimes.ort import OrtRuntime
from toolchain.accuracy.kept_calls import kept
from toolchain.accuracy.output_values import Calls

SAMPLES = 256
"""How many real samples a proof runs on."""
_PART = 64
"""Samples that run at once: ten thousand would want gigabytes of activations."""
FEWEST_CALLS = 8
"""Where an output tells one value a call, as a mean over the batch does: how near one comes is a matter of luck."""
_HALVES = ("fp16",)
_RANDOM = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
    "Dropout",
}


def calls_of(file: ModelFile, samples: SampleSet, axes: BatchAxes, *, as_hardware: bool = False) -> Calls:
    """The outputs of every call, on the CPU, products of int8 summed up as with VNNI or on an Arm.

    Of many large ones only some are in memory (:mod:`.kept_calls`).

    ``axes`` are those of the model that the samples belong to: a file made of it is called as it is. ``as_hardware``
    rounds every result of a file in half precision, as hardware that computes in it does, and the CPU provider does
    not. Where an output tells one value a call, few calls are made smaller.
    """
    with closing(opened(file, as_hardware=as_hardware)) as runtime:
        found = calls_with(runtime, samples, axes)
        few = max(1, count_of(samples, axes) // FEWEST_CALLS)
        one = any(isinstance(value, np.ndarray) and not value.ndim for call in found[:1] for value in call.values())
        if one and len(found) < FEWEST_CALLS and few < _PART:
            return calls_with(runtime, samples, axes, at_once=few)
        return found


def opened(file: ModelFile, *, as_hardware: bool = False) -> OrtRuntime:
    """A session of ``file`` as it is for :func:`calls_of`; it ends with whoever holds it, or closed."""
    with _runnable(file, rounded=as_hardware and file.precision in _HALVES) as path:
        runtime = OrtRuntime(path, precise=True)
        runtime.open()  # a file that is mapped may go
        return runtime


def calls_with(runtime: OrtRuntime, samples: SampleSet, axes: BatchAxes, *, at_once: int = _PART) -> Calls:
    """The outputs of every call, of ``at_once`` samples, of what :func:`opened` gave."""
    halves = {spec.name for spec in runtime.inputs if spec.dtype == "float16"}
    return kept(
        run(runtime, {name: a.astype("float16") if name in halves else a for name, a in feeds.items()})
        for feeds in calls(samples, axes, at_once)
    )


def parts_of(samples: SampleSet, axes: BatchAxes) -> list[range]:
    """The samples of each call that :func:`calls_of` makes, where these are :data:`FEWEST_CALLS` or more."""
    return list(parts(samples, axes, _PART))


def random_node(file: ModelFile, samples: SampleSet, axes: BatchAxes) -> str | None:
    """The name of the first node that draws random numbers, where another run gives another answer.

    A seed does not help: each run draws on from where the last one ended, and another graph draws in another order.
    """
    nodes = [node for graph in onnx_file.graphs_of(file.normal) for node in graph.node if node.op_type in _RANDOM]
    if not nodes:
        return None
    with OrtRuntime(file.path, precise=True) as runtime:
        feeds = next(calls(samples, axes, _PART))
        first, second = run(runtime, feeds), run(runtime, feeds)
    differs = any(
        isinstance(value, np.ndarray) and value.tobytes() != second[name].tobytes() for name, value in first.items()
    )
    return str(nodes[0].name) if differs else None


@contextmanager
def _runnable(file: ModelFile, *, rounded: bool) -> Iterator[Path]:
    """A file for a session: of a large model in one file a copy in two, for ONNX Runtime keeps what one file holds.

    It maps weights beside a file, and lets them go as soon as it has them in the form that it computes with: 1.2 times
    the weights of a net in half precision instead of 1.6.
    """
    if not rounded and not (file.has_stubs and not file.external_files):
        yield file.path
        return
    with tempfile.TemporaryDirectory(prefix="nnx-run-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "model.onnx"
        onnx_file.write(emulated(file.proto) if rounded else file.proto, path)
        file.release()  # a session takes twice what half precision takes in a file
        yield path

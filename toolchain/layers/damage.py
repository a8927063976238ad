"""How much noise each layer of a converted model makes: all layers at once, one batch of activations alive at a time.

A layer's *own* error is that of the layer as the file has it - its inputs, weights and result rounded - fed with the
fp32 reference's activations; its *accumulated* error is that of the same tensor inside the whole model. Both compare
the tensors that carry one name in both files, which conversions keep. A step that gives a tensor another scale has to
rename it, as equalization does: the layers around it are then judged together.
"""

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from exporters import feeds, onnx_file
from exporters.batch_axes import BatchAxes
from exporters.feeds import SampleSet
from exporters.model_file import ModelFile
from runtimes import ort_profile
from runtimes.base import Arrays, TensorSpec, run
from runtimes.ort import OrtRuntime
from runtimes.ort_profile import NodeTime
from toolchain.errors import BadUsage
from toolchain.inputs import samples
from toolchain.layers import probes as layer_probes
from toolchain.layers.graph import FLOAT_TYPES, Layer, Wiring, executed_by, layers_of, shared_tensors
from toolchain.layers.record import LIMIT_DB, LayerError
from toolchain.progress import SILENT, Progress

MEMORY_BUDGET = 2**28
_SURE_IN_SINGLE = 1e-20
"""A sum of squares above it has lost nothing that counts to squares below single precision's 1e-38."""
_BLOCK = 2**14
Inputs = Mapping[str, npt.NDArray[np.generic]]
"""What one call is fed."""


def damage(
    quantized: ModelFile,
    reference: ModelFile,
    inputs: SampleSet,
    *,
    batch: int = 16,
    memory_budget: int = MEMORY_BUDGET,
    threads: int = 1,
    executed: Sequence[NodeTime] = (),
    progress: Progress = SILENT,
) -> list[LayerError]:
    """The layers of ``quantized``, most damaging first, judged against the fp32 file ``reference`` on ``inputs``.

    Activations that would take more than ``memory_budget`` bytes for one batch
    are looked at in groups. ``executed`` is the profile of ``quantized`` where there is one already. Raises BadUsage
    for files that do not belong together.
    """
    pair = Pair(quantized, reference, inputs, batch=batch, threads=threads)
    return pair.errors(memory_budget=memory_budget, executed=executed, progress=progress)


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A model cut into ``layers``, the runtime's names of its tensors' ``types``, and its ``inputs``."""

    layers: list[Layer]
    types: Mapping[str, str]
    inputs: Sequence[TensorSpec]


def cut(model: Wiring, tensors: Sequence[str], reference: Wiring | None = None) -> Cut:
    """Cut ``model`` at ``tensors``, active ones that it computes."""
    with _opened(layer_probes.tapped(model, tensors), threads=1) as runtime:
        inputs, specs = runtime.inputs, (*runtime.inputs, *runtime.outputs)
    types = {spec.name: spec.dtype for spec in specs if spec.dtype in FLOAT_TYPES or "(" not in spec.dtype}
    return Cut(layers=layers_of(model, anchors=types, types=types, reference=reference), types=types, inputs=inputs)


def first_batch(model: ModelFile, inputs: SampleSet) -> Arrays:
    """The first sample, or as many as a model of fixed batch takes, in the types that the model wants."""
    return _as_taken(_first_call(inputs, model.batch_axes), samples.specs_of(model))


def _first_call(inputs: SampleSet, axes: BatchAxes) -> Arrays:
    return feeds.stacked(inputs, axes, feeds.like(inputs, axes, 0, samples_a_call(inputs, axes)))


def samples_a_call(inputs: SampleSet, axes: BatchAxes) -> int:
    """How many samples a call takes at least."""
    return 1 if feeds.run_alone(inputs, axes) else axes.fixed or 1


def _as_taken(arrays: Inputs, specs: Sequence[TensorSpec]) -> Arrays:
    """Of ``arrays`` those that ``specs`` name; floats in the type that they want."""
    return {
        spec.name: array.astype(spec.dtype, copy=False) if np.issubdtype(array.dtype, np.floating) else array
        for spec in specs
        if (array := arrays.get(spec.name)) is not None
    }


class Pair:
    """A converted model beside its reference, cut into layers at the tensors that they share."""

    def __init__(
        self, quantized: ModelFile, reference: ModelFile, inputs: SampleSet, *, batch: int = 16, threads: int = 1
    ) -> None:
        self._files, self._inputs, self._threads = (quantized, reference), inputs, threads
        self._axes = reference.batch_axes
        self.wiring, self._reference = (Wiring(file.proto) for file in self._files)
        shared = shared_tensors(self.wiring, self._reference)
        if set(self.wiring.inputs) != set(self._reference.inputs):
            raise self._strangers("their inputs have other names")
        if not shared:
            raise self._strangers("no tensor inside has the same name in both")
        self._cut = cut(self.wiring, shared, self._reference)
        self.layers, least = self._cut.layers, samples_a_call(inputs, self._axes)
        self._batch = self._axes.fixed or batch
        if feeds.count_of(inputs, self._axes) < least:
            raise BadUsage(f"{quantized} takes {least} samples at a time; there are fewer.", "Give it more samples.")
        few = _first_call(inputs, self._axes)
        tensors = [name for name in self._cut.types if name not in inputs]
        with _opened(layer_probes.tapped(self._reference, tensors), threads) as one:
            self._require_same_inputs(one.inputs)
            found = few | _run(one, few)
        self._ranks = {name: array.ndim for name, array in found.items()}
        self._batch_bytes = {name: array.nbytes * self._batch // least for name, array in found.items()}

    def errors(
        self,
        *,
        memory_budget: int = MEMORY_BUDGET,
        executed: Sequence[NodeTime] = (),
        progress: Progress = SILENT,
    ) -> list[LayerError]:
        """As :func:`damage`."""
        groups = list(self.groups(memory_budget))
        own: dict[str, float] = {}
        accumulated: dict[str, float] = {}
        with progress.bar("layers", len(groups) * self.batch_count) as bar:
            for group in groups:
                in_model, alone = self.measure(group, bar.advance)
                accumulated |= in_model
                own |= alone
        noise = {output: 0.0 if db >= LIMIT_DB else 10 ** (-db / 10) for output, db in own.items()}
        total = sum(noise.values()) or 1.0
        precisions = self.precisions(executed)
        errors = [
            LayerError(
                name=layer.name,
                op_type=layer.op_type,
                output=layer.output,
                precision=precisions.get(layer.name, ""),
                weight_bytes=layer.weight_bytes,
                own_sqnr_db=own.get(layer.output),
                accumulated_sqnr_db=accumulated.get(layer.output),
                noise_share=noise[layer.output] / total if layer.output in noise else None,
            )
            for layer in self.layers
        ]
        return sorted(errors, key=_harmlessness)

    @property
    def batch_count(self) -> int:
        return sum(1 for _ in feeds.parts(self._inputs, self._axes, self._batch))

    def groups(self, memory_budget: int) -> Iterator[list[Layer]]:
        """The layers in the order of the graph, one an output, in groups whose activations fit the budget."""
        group: list[Layer] = []
        for layer in {layer.output: layer for layer in self.layers}.values():
            if group and self._bytes_of([*group, layer]) > memory_budget:
                yield group
                group = []
            group.append(layer)
        if group:
            yield group

    def measure(
        self, layers: Sequence[Layer], advance: Callable[[], None]
    ) -> tuple[dict[str, float], dict[str, float]]:
        """(Accumulated, own) SQNR in dB by the layers' outputs."""
        apart = [layer for layer in layers if layer.alone]
        models = [layer_probes.with_taps(self.wiring, layers)]
        if apart:
            models.append(layer_probes.cut_apart(self.wiring, apart, types=self._cut.types, ranks=self._ranks))
        noises = [{layer.output: Noise() for layer in judged} for judged in (layers, apart)]
        with contextlib.ExitStack() as stack:
            tensors = [name for name in self._needed(layers) if name not in self._inputs]
            reference = stack.enter_context(_opened(layer_probes.tapped(self._reference, tensors), self._threads))
            runtimes = [stack.enter_context(_opened(model, self._threads)) for model in models]
            for fed in self._batches():
                truth = fed | _run(reference, fed)
                for runtime, judged in zip(runtimes, noises, strict=False):
                    self._compare(truth, _run(runtime, truth), judged)
                advance()
        in_model, own = ({name: noise.sqnr_db for name, noise in judged.items()} for judged in noises)
        return in_model, own

    def precisions(self, executed: Sequence[NodeTime]) -> dict[str, str]:
        """What the layers are computed in, by their names."""
        fed = _as_taken(next(self._batches()), self._cut.inputs)
        nodes = executed or ort_profile.time_shares(self._files[0].path, fed, threads=self._threads, runs=1)
        done = executed_by(self.wiring, self.layers, nodes)
        first = {position: node for node, positions in reversed(done) for position in positions}
        return {self.layers[position].name: node.precision for position, node in first.items()}

    def _require_same_inputs(self, others: Sequence[TensorSpec]) -> None:
        wanted = {spec.name: spec for spec in others}
        for spec in self._cut.inputs:
            other = wanted[spec.name]
            pairs = zip(spec.shape, other.shape, strict=False)
            if len(spec.shape) != len(other.shape) or any(
                isinstance(one, int) and isinstance(two, int) and one != two for one, two in pairs
            ):
                raise self._strangers(f"their input '{spec.name}' is {spec} and {other}")

    def _compare(self, truth: Arrays, results: Arrays, noises: Mapping[str, "Noise"]) -> None:
        for (name, noise), result in zip(noises.items(), results.values(), strict=True):
            if result.shape != truth[name].shape:
                raise self._strangers(f"their '{name}' is {list(result.shape)} and {list(truth[name].shape)}")
            noise.add(truth[name], result)

    def _batches(self) -> Iterator[Arrays]:
        return feeds.calls(self._inputs, self._axes, self._batch)

    def _needed(self, layers: Sequence[Layer]) -> list[str]:
        """The reference's tensors that a group of layers is fed with and compared with."""
        fed = (name for layer in layers if layer.alone for name in layer.inputs)
        return list(dict.fromkeys((*fed, *(layer.output for layer in layers))))

    def _bytes_of(self, layers: Sequence[Layer]) -> int:
        """What is alive in one batch: the reference's tensors, and each layer's result twice."""
        return sum(self._batch_bytes[name] for name in self._needed(layers)) + 2 * sum(
            self._batch_bytes[layer.output] for layer in layers
        )

    def _strangers(self, why: str) -> BadUsage:
        quantized, reference = self._files
        return BadUsage(
            f"{quantized} was not made from {reference}: {why}.", "Give the fp32 model that it was made from."
        )


class Noise:
    """Signal and noise power of one tensor, summed over the batches."""

    def __init__(self) -> None:
        self._signal = self._noise = 0.0

    def add(self, reference: npt.NDArray[np.generic], given: npt.NDArray[np.generic]) -> None:
        in_double = reference.dtype == given.dtype == np.float64
        dtype: np.dtype[np.floating] = np.dtype(np.float64 if in_double else np.float32)
        wanted, got = (array.astype(dtype, copy=False).ravel() for array in (reference, given))
        with np.errstate(invalid="ignore", over="ignore"):
            signal, noise = _power(wanted), _power(wanted - got)
            if not all(_SURE_IN_SINGLE < power < math.inf for power in (signal, noise)):
                # squares that overflowed or vanished; infinities of a mask that both have are neither signal nor noise
                signal = _power(np.where(np.isfinite(wanted), wanted, 0).astype(np.float64))
                noise = _power(np.where(wanted == got, 0, wanted.astype(np.float64) - got))
        self._signal += signal
        self._noise += noise

    @property
    def sqnr_db(self) -> float:
        if self._noise == 0:
            return LIMIT_DB
        if not self._signal or not math.isfinite(self._noise):
            return -LIMIT_DB
        return min(LIMIT_DB, max(-LIMIT_DB, 10 * math.log10(self._signal / self._noise)))


def _power(values: npt.NDArray[np.floating]) -> float:
    """The sum of squares: blocks in the array's precision, their sum in double.

    MobileNetV2, 32 images: 3.4 s for everything, against 5.8 with each element in double; the same to 1e-5 dB.
    """
    return sum(float(np.dot(block, block)) for block in np.array_split(values, values.size // _BLOCK + 1))


def _harmlessness(error: LayerError) -> tuple[bool, float, float]:
    """Sorts the largest own error first, and layers without one last, by their accumulated error."""
    own, accumulated = error.own_sqnr_db, error.accumulated_sqnr_db
    return own is None, own or 0.0, LIMIT_DB if accumulated is None else accumulated


@contextlib.contextmanager
def _opened(model: onnx.ModelProto, threads: int) -> Iterator[OrtRuntime]:
    """``model`` in a session, from a temporary file that is removed."""
    with contextlib.ExitStack() as stack:
        with tempfile.TemporaryDirectory(prefix="nnx-layers-") as folder:
            path = Path(folder) / "probe.onnx"
            onnx_file.write(model, path)
            runtime = stack.enter_context(OrtRuntime(path, threads=threads, precise=True))
        yield runtime


def _run(runtime: OrtRuntime, arrays: Inputs) -> Arrays:
    return run(runtime, _as_taken(arrays, runtime.inputs))

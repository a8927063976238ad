"""fp32 .onnx + calibration samples -> static int8 .onnx in QDQ form."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import onnx

from exporters import cleaning, feeds, large_weights, onnx_file, skeleton
from exporters.artifact import Artifact
from exporters.calibration import activations, thresholds
from exporters.calibration import data as calibration_data
from exporters.calibration.activations import DEFAULT_MEMORY_BUDGET, Fold
from exporters.calibration.channel_maxima import channel_maxima
from exporters.calibration.data import Samples
from exporters.calibration.statistics import Statistics, collect
from exporters.calibration.thresholds import DEFAULT_METHOD, DEFAULT_PERCENTILE, Method, Range
from exporters.finish import finish
from exporters.int8 import attention_form, bias_correction, equalization, placement, qdq, stem_fold, unlike_channels
from exporters.int8.evidence import Evidence
from exporters.int8.integer_graph import IntegerGraph, lookups_and_recurrent
from exporters.int8.preparation import MIN_OPSET, preprocessed, refuse_quantized, require_int8, successors
from exporters.int8.targets import Int8Format
from exporters.model_file import ModelFile
from exporters.weights import drop_unread, import_contrib

Step = Literal["attention-form", "stem-fold", "equalization", "gemm-per-tensor", "bias-correction"]
STEPS: tuple[Step, ...] = get_args(Step)
_CORRECTION_SAMPLES = range(16, 65)  # 64 are 0.3 dB better than 16 on a CIFAR-10 net; large images make do with fewer
_CORRECTION_BYTES = 10**8  # of the widest activation
_EVIDENCE_SAMPLES = 64
_LOSS_FOR_SPEED_DB = 1.0


@dataclass(frozen=True, kw_only=True)
class StaticOptions:
    """``skip`` names steps to leave out.

    attention-form and stem-fold are exact and are taken wherever they apply; equalization and bias-correction where the
    outputs come nearer to those of fp32 on calibration data, gemm-per-tensor where it costs less than 1 dB. Raises
    BadOption for what is no percentile.
    """

    method: Method = DEFAULT_METHOD
    percentile: float = DEFAULT_PERCENTILE
    skip: frozenset[Step] = frozenset()
    memory_budget: int = DEFAULT_MEMORY_BUDGET

    def __post_init__(self) -> None:
        thresholds.check_percentile(self.percentile)


class StaticInt8:
    """A model made ready and calibrated once, from which int8 versions with more or fewer nodes in float are made.

    ``samples`` map each input's name to ``(S, ...)`` real, preprocessed training data; ``source`` is what errors and
    the provenance call them. ``cache`` is a folder for statistics, keyed by content; ``fold`` takes them.

    Raises BadCalibrationData when the samples do not fit the model, BadModelFile when it is int8 already or has no
    fp32 weights.
    """

    def __init__(
        self,
        src: ModelFile,
        *,
        samples: Samples,
        int8: Int8Format,
        source: Path | str = "given",
        options: StaticOptions | None = None,
        cache: Path | None = None,
        fold: Fold = activations.fold,
        advance: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._src, self._samples, self._int8 = src, samples, int8
        self._options = options or StaticOptions()
        self._cache, self._fold = cache, fold
        self.steps: list[str] = []
        """What was done to the graph, and what it gained, one sentence each."""
        refuse_quantized(src)
        self._spread = src.has_stubs
        with large_weights.filling(large_weights.folder_for(self) if self._spread else None):
            self._prepare(source, advance)

    def _prepare(self, source: Path | str, advance: Callable[[int], None]) -> None:
        src, samples, int8 = self._src, self._samples, self._int8
        model = src.to_convert(MIN_OPSET)
        self._original = model
        self._data_sha256 = calibration_data.check(samples, model, source=source)
        if "attention-form" not in self._options.skip and (done := attention_form.flattened(model)):
            model = done[0]
            self.steps.append(f"attention-form: {done[1]}")
        self._model = preprocessed(src, model)
        if int8.stem_fold and "stem-fold" not in self._options.skip and (done := stem_fold.folded(self._model)):
            self._model = skeleton.shaped(done[0])
            self.steps.append(f"stem-fold: {done[1]}")
        self._evidence = Evidence(self._model, self._some(_CORRECTION_SAMPLES[-1], _EVIDENCE_SAMPLES))
        self._statistics = self._calibrate(self._model, advance)
        self._gemm_per_tensor = False
        self._unrounded = self._unlike()
        self._equalize()
        self._gemm_per_tensor = self._spares_gemm_scales()

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which writes versions and calibrates no more."""
        few = self._some(0, _CORRECTION_SAMPLES[-1])
        return vars(self) | {"_samples": few, "_cache": None, "_fold": activations.fold}

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of the nodes that :meth:`write` can leave in float."""
        in_float = set(qdq.nodes_in_float(self._model, self._int8)) - set(lookups_and_recurrent(self._model))
        return tuple(node.name for node in self._model.graph.node if node.name not in in_float)

    @property
    def from_cache(self) -> bool:
        """Whether the statistics were known from an earlier calibration."""
        return self._statistics.from_cache

    @property
    def statistics(self) -> Statistics:
        """What calibration saw of the activations of :attr:`reference`."""
        return self._statistics

    @property
    def data_sha256(self) -> str:
        """The digest of the calibration data."""
        return self._data_sha256

    @property
    def reference(self) -> onnx.ModelProto:
        """The fp32 model that is quantized, after its steps, with which layers can be compared by name."""
        return self._model

    @property
    def method(self) -> Method:
        """How ranges are chosen where nothing else is said."""
        return self._options.method

    def plain(self, method: Method) -> onnx.ModelProto:
        """An int8 version by ``method`` without corrections: to be compared, not to be shipped."""
        return self._quantized(self._model, self._statistics, methods=dict.fromkeys(self._statistics.seen, method))

    def write(
        self, dst: Path, *, exclude: Collection[str] = (), methods: Mapping[str, Method] | None = None
    ) -> Artifact:
        """Write the int8 version to ``dst``: nodes of ``exclude`` in float, tensors of ``methods`` by their method."""
        with large_weights.scratch(self._spread):
            return self._written(dst, exclude, methods)

    def _written(self, dst: Path, exclude: Collection[str], methods: Mapping[str, Method] | None) -> Artifact:
        now = self._nodes_now(exclude)
        quantized, steps = self._corrected(now, methods)
        left = self._left_in_float(now)
        chosen = [self._options.method, *(f"{name} by {method}" for name, method in sorted((methods or {}).items()))]
        quantized = self._with_small_tables(quantized, now)
        require_int8(quantized, "QuantizeLinear", src=self._src, precision="int8-static")
        return finish(
            quantized,
            dst,
            src=self._src,
            precision="int8-static",
            facts={
                "int8_format": str(self._int8),
                "calibration_samples": str(self._statistics.samples),
                "calibration_sha256": self._data_sha256,
                "calibration_method": "; ".join(chosen),
                "steps": "; ".join(steps),
                "float_nodes": ", ".join(sorted(exclude)),
                "left_in_float": "; ".join(left),
            },
            notes=(*steps, *left),
        )

    def _with_small_tables(self, quantized: onnx.ModelProto, exclude: Collection[str]) -> onnx.ModelProto:
        """``quantized`` with the tables and recurrent weights that are still float in 8 bits, as dynamic int8 does."""
        if not IntegerGraph(quantized, self._int8, exclude, source=self._src, products=False).count:
            return quantized
        made = cleaning.without_dead_parts(quantized)
        drop_unread(made)
        import_contrib(made)
        return made

    def _left_in_float(self, exclude: Collection[str]) -> list[str]:
        """What is not in int8 though int8 has kernels for it, and why, one sentence each."""
        place = self._placed(exclude)
        told = []
        if place.unmeasured:
            reasons = [f"'{name}' {self._statistics.fault_of(name)}" for name in sorted(place.unmeasured)]
            told.append(f"in float, as the calibration data give no range: {onnx_file.some(reasons)}")
        if inner := placement.nested_products(self._model):
            told.append(f"in float, as they lie inside If, Loop or Scan: {onnx_file.some(inner)}")
        return told

    def _nodes_now(self, exclude: Collection[str]) -> set[str]:
        """Those of the graph as it is now, where steps may have merged nodes that the user knows by another name."""
        present = {node.name for node in self._model.graph.node}
        merged = set(exclude) - present
        onnx_file.require_nodes(self._original, merged, source=self._src)
        return (set(exclude) & present) | successors(self._original.graph, self._model.graph, merged)

    def _calibrate(self, model: onnx.ModelProto, advance: Callable[[int], None] = lambda count: None) -> Statistics:
        return collect(
            model,
            self._samples,
            data_sha256=self._data_sha256,
            in_float=qdq.nodes_in_float(model, self._int8),
            cache=self._cache,
            memory_budget=self._options.memory_budget,
            fold=self._fold,
            advance=advance,
        )

    def _quantized(
        self,
        model: onnx.ModelProto,
        statistics: Statistics,
        exclude: Collection[str] = (),
        methods: Mapping[str, Method] | None = None,
    ) -> onnx.ModelProto:
        ranges = self._ranges(statistics, methods)
        return qdq.inserted(
            model,
            ranges,
            int8=self._int8,
            exclude=exclude,
            gemm_per_tensor=self._gemm_per_tensor,
            unrounded=self._unrounded,
        )

    def _placed(self, exclude: Collection[str] = ()) -> placement.Placement:
        return placement.placed(self._model, self._ranges(self._statistics), self._int8, exclude, self._unrounded)

    def _unlike(self) -> frozenset[str]:
        """The outputs, and what they are made of, whose channels no common scale fits."""
        self._unrounded = frozenset[str]()
        few, ranges = self._some(0, _EVIDENCE_SAMPLES), self._ranges(self._statistics)
        return unlike_channels.unrounded(
            self._model, few, self._placed(), ranges, memory_budget=self._options.memory_budget
        )

    def _ranges(self, statistics: Statistics, methods: Mapping[str, Method] | None = None) -> dict[str, Range]:
        return statistics.ranges(
            method=self._options.method,
            percentile=self._options.percentile,
            symmetric=self._int8.symmetric,
            methods=methods,
        )

    def _equalize(self) -> None:
        """Scale channels between layers, and keep that when the outputs come nearer to those of fp32."""
        pairs = [] if "equalization" in self._options.skip else equalization.pairs(self._model)
        if not pairs:
            return
        few = self._some(0, _EVIDENCE_SAMPLES)
        axes = {pair.tensor: pair.axis for pair in pairs}
        maxima = channel_maxima(self._model, few, axes, memory_budget=self._options.memory_budget)
        done = equalization.equalized(self._model, maxima)
        if done is None:
            return
        model = skeleton.shaped(done[0])
        statistics = self._calibrate(model)
        before, after = self._sqnr_db(self._model, self._statistics), self._sqnr_db(model, statistics)
        if after > before:
            self._model, self._statistics = model, statistics
            self._unrounded = self._unlike()
            self.steps.append(f"equalization: {done[1]}, {after - before:+.1f} dB")

    def _spares_gemm_scales(self) -> bool:
        """Whether Gemms do with one scale for all their weights: the SST-2 perceptron is 10 % faster at batch 1."""
        if "gemm-per-tensor" in self._options.skip or not self._int8.per_channel or not qdq.gemm_weights(self._model):
            return False
        before = self._sqnr_db(self._model, self._statistics)
        self._gemm_per_tensor = True
        loss = before - self._sqnr_db(self._model, self._statistics)
        if not loss < _LOSS_FOR_SPEED_DB:
            return False
        self.steps.append(f"gemm-per-tensor: one scale for the weights of each Gemm, {-loss:+.1f} dB")
        return True

    def _sqnr_db(self, model: onnx.ModelProto, statistics: Statistics) -> float:
        """Of the int8 version of ``model``."""
        with large_weights.scratch(self._spread):
            return self._evidence.sqnr_db(self._quantized(model, statistics))

    def _corrected(
        self, exclude: Collection[str], methods: Mapping[str, Method] | None
    ) -> tuple[onnx.ModelProto, list[str]]:
        """The quantized model, its biases corrected where that brings the outputs nearer to those of fp32."""
        plain = self._quantized(self._model, self._statistics, exclude, methods)
        if "bias-correction" in self._options.skip:
            return plain, self.steps
        correction = bias_correction.measure(
            self._model,
            plain,
            self._some(0, self._correction_samples()),
            memory_budget=self._options.memory_budget,
        )
        if not correction.shifts:
            return plain, self.steps
        corrected = self._quantized(correction.applied_to(self._model), self._statistics, exclude, methods)
        gain = self._evidence.sqnr_db(corrected) - self._evidence.sqnr_db(plain)
        if not gain > 0:  # nor where neither can be told
            return plain, self.steps
        return corrected, [*self.steps, f"bias-correction: {len(correction.shifts)} layers, {gain:+.1f} dB"]

    def _correction_samples(self) -> int:
        """As many as keep the widest activation within _CORRECTION_BYTES."""
        widest = max(map(_bytes_per_sample, self._model.graph.value_info), default=1)
        return min(max(_CORRECTION_BYTES // widest, _CORRECTION_SAMPLES[0]), _CORRECTION_SAMPLES[-1])

    def _some(self, start: int, count: int) -> Samples:
        """``count`` samples from ``start`` on, or as many of the last as there are; whole batches of a fixed size."""
        return feeds.some(self._samples, self._src.batch_axes, start, count)


def _bytes_per_sample(value: onnx.ValueInfoProto) -> int:
    """Of an fp32 tensor whose first axis is the batch; axes of unknown length count as 1."""
    return 4 * int(math.prod(axis.dim_value or 1 for axis in value.type.tensor_type.shape.dim[1:]))


def convert(
    src: ModelFile,
    dst: Path,
    *,
    samples: Samples,
    int8: Int8Format,
    source: Path | str = "given",
    options: StaticOptions | None = None,
    exclude: Collection[str] = (),
    cache: Path | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Artifact:
    """Write ``src``'s static int8 version to ``dst``: :class:`StaticInt8` in one call."""
    ready = StaticInt8(src, samples=samples, int8=int8, source=source, options=options, cache=cache, advance=advance)
    return ready.write(dst, exclude=exclude)

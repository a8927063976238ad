"""How far another machine's answers may be off, as a measurement here tells: the same file computed in other ways."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters.model_file import ModelFile
from exporters.tensors import all_tensors
from runtimes.base import FEEDABLE, run
from runtimes.errors import NotLoadable, RunFailed
from runtimes.ort import OrtRuntime
from runtimes.session_settings import SessionSettings, stored_in
from toolchain.errors import BadUsage

Array = npt.NDArray[Any]
Call = Mapping[str, Array]
_FACTOR = 4
"""Other kernels differ in more than these ways do: another order of sums, other instructions."""
_NUDGES = 2
_NUDGED_BY = 4  # roundings
_ROUNDOFF = {"float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}
_OF_PRECISION = {"fp16": "float16"}
"""What devices with such kernels compute in, whatever type the outputs have."""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """A value passes within ``absolute + relative * |expected|``; ``why`` says what it was measured by."""

    absolute: float
    relative: float
    why: str

    def why_not(self, got: Array, want: Array) -> str | None:
        """What is wrong with ``got``, to complete "The output ..."; None where it passes.

        NaN and infinity must stand in the same places, and what is no float must be equal.
        """
        if got.shape != want.shape or got.dtype != want.dtype:
            return f"is {got.dtype}{list(got.shape)}, not {want.dtype}{list(want.shape)}"
        if want.dtype.kind != "f":
            wrong = int((got != want).sum())
            return f"differs in {wrong} of {want.size} values" if wrong else None
        got, want = got.astype(np.float64), want.astype(np.float64)
        with np.errstate(invalid="ignore"):  # infinite values less infinite ones
            off = np.abs(got - want)
            near = off <= self.absolute + self.relative * np.abs(want)
        wrong = int((~(near | (got == want) | (np.isnan(got) & np.isnan(want)))).sum())
        largest = float(off[np.isfinite(off)].max(initial=0.0))
        return f"is off by {largest:.3g} in {wrong} values, {self.absolute:.3g} is allowed" if wrong else None


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a model gives, one dict of outputs a call, and how far each output may be off elsewhere."""

    outputs: Sequence[Mapping[str, Array]]
    tolerances: Mapping[str, Tolerance]


def measured(model: ModelFile, calls: Sequence[Call]) -> Answers:
    """The answers of ``model`` as it is opened by default in one thread, and what other ways of opening it change.

    Raises NotLoadable and RunFailed where that way does not work, BadUsage for outputs that are no numbers; a way that
    this ONNX Runtime cannot go is left out.
    """
    settings = stored_in(model.path) or SessionSettings()
    expected = _answers(model, calls, settings)
    for name, value in expected[0].items():
        require_numbers(name, value)
    off = dict.fromkeys(expected[0], 0.0)
    ways = 1
    for other, threads, precise, given in _ways(settings, calls):
        try:
            found = _answers(model, given, other, threads=threads, precise=precise)
        except (NotLoadable, RunFailed):
            continue
        ways += 1
        for name in off:
            pairs = zip(expected, found, strict=True)
            off[name] = max(off[name], *(_difference(want[name], got[name]) for want, got in pairs))
    products = products_in(model)
    return Answers(
        outputs=expected,
        tolerances={
            name: _tolerance([each[name] for each in expected], off[name], ways, products, model.precision)
            for name in off
        },
    )


def require_numbers(name: str, value: object) -> None:
    """BadUsage for a golden value that is no array of numbers."""
    if not isinstance(value, np.ndarray) or value.dtype.name not in FEEDABLE:
        kind = value.dtype.name if isinstance(value, np.ndarray) else type(value).__name__
        raise BadUsage(
            f"'{name}' is {kind}, and golden values are arrays of numbers.",
            "Cut the model there with `nnx convert --to`, or cast it to float32.",
        )


def _ways(
    settings: SessionSettings, calls: Sequence[Call]
) -> Iterator[tuple[SessionSettings, int, bool, Sequence[Call]]]:
    """(settings, threads, whether products of int8 are summed as other processors do, inputs): all but the default.

    Nudged inputs show what a rounding error grows to on its way: a value that int8 rounds up here may be rounded down
    elsewhere.
    """
    for changed in (settings, replace(settings, graph_level="disabled")):
        for threads in (1, 2):
            for precise in (False, True):
                if (changed, threads, precise) != (settings, 1, False):
                    yield changed, threads, precise, calls
    for seed in range(_NUDGES):
        random = np.random.default_rng(seed)
        nudged = [{name: _nudged(array, random) for name, array in call.items()} for call in calls]
        yield settings, 1, False, nudged


def _nudged(array: Array, random: np.random.Generator) -> Array:
    """Each value a few roundings off, up or down; what is no float stays."""
    if array.dtype.name not in _ROUNDOFF:
        return array
    signs = random.choice((-1.0, 1.0), array.shape)
    # a value without axes would come out as a number, which a session does not take
    return np.asarray(array * (1 + _NUDGED_BY * _ROUNDOFF[array.dtype.name] * signs)).astype(array.dtype)


def _answers(
    model: ModelFile, calls: Sequence[Call], settings: SessionSettings, *, threads: int = 1, precise: bool = False
) -> list[Mapping[str, Array]]:
    with OrtRuntime(model.path, threads=threads, settings=settings, precise=precise) as runtime:
        return [run(runtime, call) for call in calls]


def _difference(want: Array, got: Array) -> float:
    """The largest between finite values; what is no number has no distance."""
    if not isinstance(want, np.ndarray) or want.dtype.kind != "f" or want.shape != got.shape:
        return 0.0
    both = np.isfinite(want) & np.isfinite(got)
    return float(np.abs(want.astype(np.float64) - got.astype(np.float64))[both].max(initial=0.0))


def _tolerance(outputs: Sequence[Array], off: float, ways: int, products: int, precision: str) -> Tolerance:
    dtype = outputs[0].dtype.name
    if dtype not in _ROUNDOFF:
        return Tolerance(absolute=0.0, relative=0.0, why=f"{dtype} is compared exactly")
    largest = max(float(np.abs(each[np.isfinite(each)]).max(initial=0.0)) for each in outputs)
    computed = _OF_PRECISION.get(precision, dtype)
    floor = _ROUNDOFF[computed] * math.sqrt(products) * largest
    return Tolerance(
        absolute=_rounded_up(max(_FACTOR * off, floor)),
        relative=0.0,
        why=f"{_FACTOR} times {off:.2g}, the largest difference between {ways} ways of computing the file, and at "
        f"least {floor:.2g}, what rounding to {computed} makes of {products:,} summed products at values up to "
        f"{largest:.2g}",
    )


def products_in(model: ModelFile) -> int:
    """How many products are summed on the longest way to an output, at most: each weight's, one after the other.

    Rounding errors of n products add up like a random walk, to sqrt(n) times one (Higham and Mary 2019).
    """
    shapes = [tuple(map(int, tensor.dims)) for tensor in all_tensors(model.graph)]
    sums = [math.prod(shape[1:]) if len(shape) > 2 else max(shape) for shape in shapes if len(shape) > 1]
    return max(1, sum(sums))


def _rounded_up(value: float) -> float:
    """To two digits: the third would be another one on the next machine."""
    if not value:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit) * unit:.1e}")

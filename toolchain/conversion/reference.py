"""The PyTorch module that an export is compared with: run on copies, so that no run changes it or its inputs."""

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from exporters import torch_weights
from exporters.errors import ExporterError, NotExportable, in_words
from exporters.input_tree import Tree
from exporters.torch_module import Flat, isolated, require_values, unwrapped
from toolchain.conversion import blame
from toolchain.errors import BadUsage, CheckFailed, NotAvailable
from toolchain.inputs.input_specs import BATCH

Arrays = dict[str, npt.NDArray[np.generic]]
_WITH_FAST_PATH = (torch.nn.TransformerEncoder, torch.nn.TransformerEncoderLayer, torch.nn.MultiheadAttention)
_HALVES = (torch.float16, torch.bfloat16)


class DoesNotRun(BadUsage):
    """forward() raised for these inputs."""


@dataclass(frozen=True)
class Reference:
    """``module`` in eval mode on the CPU; ``takes`` says how its arguments are made of the inputs.

    ``precision`` is the coarsest that it computes in, ``notes`` what was changed for the export.
    """

    module: torch.nn.Module
    takes: Mapping[str, Tree]
    precision: str = "fp32"
    notes: tuple[str, ...] = ()

    @staticmethod
    def of(module: torch.nn.Module, takes: Mapping[str, Tree], *, in_fp32: bool = True) -> "Reference":
        """``module`` without its wrappers; with ``in_fp32`` a copy in fp32 of one in half precision throughout."""
        require_values(unwrapped(module))
        plain = isolated(unwrapped(module)).cpu()
        kinds = {value.dtype for value in plain.parameters() if value.is_floating_point()}
        halves = sorted(str(kind).removeprefix("torch.") for kind in kinds & set(_HALVES))
        if not halves:
            return Reference(plain, takes)
        if in_fp32 and kinds <= set(_HALVES):
            note = f"The module is in {' and '.join(halves)}: it was exported as module.float(), and takes float32."
            return Reference(copy.deepcopy(plain).float(), takes, notes=(note,))
        return Reference(plain, takes, precision="bf16" if torch.bfloat16 in kinds else "fp16")

    def fed(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """``arrays`` as the module takes them: in fp32 where it was brought there."""
        if not self.notes:
            return dict(arrays)
        return {
            name: array.astype(np.float32) if array.dtype == np.float16 else array for name, array in arrays.items()
        }

    def flat(self) -> Flat:
        """A copy to be traced."""
        return Flat(isolated(self.module), self.takes)

    def run(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """What the module returns, by name. Raises DoesNotRun for whatever forward() raises."""
        flat = self.flat()
        return called(flat, arrays)

    def tables(self, arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, int]:
        """How many rows the embedding has that an input of whole numbers indexes."""
        if not any(np.issubdtype(array.dtype, np.integer) for array in arrays.values()):
            return {}
        watch = _Embeddings({name: torch.from_numpy(array) for name, array in arrays.items()})
        try:
            with watch:
                self.run(arrays)
        except DoesNotRun:  # some operators do not let themselves be watched
            return {}
        return watch.rows

    def require_stateless(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Iterator[str]:
        """Refuse a module whose second answer is another; what it changes without effect is yielded as a note."""
        flat = self.flat()
        first, second = (called(flat, arrays, seed=seed) for seed in range(2))
        before = dict(self.module.named_buffers())
        after = dict(flat.module.named_buffers())
        changed = [name for name, value in after.items() if name not in before or not _same(before[name], value)]
        named = f"the buffer{'s' if len(changed) > 1 else ''} {', '.join(changed[:4])}"
        if list(first) == list(second) and all(_close(value, second[name]) for name, value in first.items()):
            if changed:
                yield f"forward() changes {named}; the file keeps no state, and its answers do not depend on it."
            return
        if changed:
            raise BadUsage(
                f"forward() changes {named}, and its answer depends on that: a file keeps no state.",
                "Make it an input and an output of forward().",
            )
        watched = blame.Watched(self.flat())
        first_run, second_run = (self._watched(watched, arrays, seed=seed) for seed in range(2))
        where = blame.first_apart(first_run, second_run, _same)
        raise CheckFailed(
            "Parity failed: forward() gives another answer when it is called again on the same inputs: it draws random "
            f"numbers, or keeps something between calls{f', first in {where}' if where else ''}.",
            "Let it depend on its inputs alone.",
        )

    def fast_path(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Iterator[str]:
        """A note where PyTorch's fast path for attention layers, which nothing that is captured takes, differs."""
        if not any(isinstance(layer, _WITH_FAST_PATH) for layer in self.module.modules()):
            return
        slow = self.run(arrays)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that nested tensors are a prototype
                fast = called(self.flat(), arrays, fast_path=True)
        except (DoesNotRun, NotAvailable):
            return
        pairs = [(slow[name], value) for name, value in fast.items() if name in slow]
        if all(_close(one, other) for one, other in pairs):
            return
        does = "writes zeros where the padding mask masks" if all(map(_zeros_apart, pairs)) else "gives other values"
        yield (
            f"PyTorch's fast path for attention layers {does}; the file computes what PyTorch does without it, under "
            "torch.backends.mha.set_fastpath_enabled(False)."
        )

    def coupling(
        self, arrays: Arrays, axes: Mapping[str, Mapping[int, str]], outputs: Mapping[str, Mapping[int, str]]
    ) -> Iterator[str]:
        """A note where a sample's results depend on the others of its batch: they change where those are copies of it.

        ``axes`` are the dynamic ones of each input, ``outputs`` those of each output.
        """
        batches = {name: axis for name, words in axes.items() for axis, word in words.items() if word == BATCH}
        alike = {
            name: np.take(array, [0] * array.shape[batches[name]], axis=batches[name]) if name in batches else array
            for name, array in arrays.items()
        }
        watched = blame.Watched(self.flat())
        try:
            if not any(_first_rows_part(self.run(arrays), self.run(alike), outputs)):
                return
            one, other = (self._watched(watched, each, seed=0) for each in (arrays, alike))
        except (DoesNotRun, NotAvailable):  # on such values
            return
        length = max(arrays[name].shape[axis] for name, axis in batches.items())
        where = blame.first_apart(one, other, lambda this, that: _same_row(this, that, length))
        first = f", first in {where}" if where else ""
        yield f"Samples of a batch influence each other{first}: what is served together matters."

    def _watched(self, watched: blame.Watched, arrays: Mapping[str, npt.NDArray[Any]], *, seed: int) -> blame.Results:
        with watched.running():
            called(watched.flat, arrays, seed=seed)
        return watched.results


def called(flat: Flat, arrays: Mapping[str, npt.NDArray[Any]], *, seed: int = 0, fast_path: bool = False) -> Arrays:
    """What ``flat`` returns, by name; with ``fast_path`` as PyTorch's encoder layers run where nothing traces them."""
    tensors = [torch.from_numpy(np.array(array)) for array in arrays.values()]  # forward() may change them in place
    try:
        with (
            torch.random.fork_rng(devices=[]), torch.inference_mode(), torch_weights.passing(), _fast_path(fast_path)
        ):  # fmt: skip
            torch.manual_seed(seed)
            values = flat(*tensors)
    except (ExporterError, KeyboardInterrupt):
        raise
    except MemoryError as error:
        raise NotAvailable("The model ran out of memory.", "Describe smaller inputs.") from error
    except BaseException as error:
        if "allocate memory" in in_words(error):
            raise NotAvailable("The model ran out of memory.", "Describe smaller inputs.") from error
        raise DoesNotRun(
            f"The model does not run on these inputs: {in_words(error)}.",
            "Check their names, types and shapes, or give real ones with --samples.",
        ) from error
    if not values:
        raise BadUsage("forward() returns no tensor.", "Return at least one.")
    found = zip(flat.outputs, values, strict=True)
    return {name: _array(name, value.detach()) for name, value in found}


@contextlib.contextmanager
def _fast_path(allowed: bool) -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(allowed)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _array(name: str, value: torch.Tensor) -> npt.NDArray[Any]:
    """``value`` as numpy has it: there is no bfloat16."""
    if value.is_complex():
        raise NotExportable(
            f"forward() returns complex numbers as '{name}', which ONNX Runtime does not have.",
            "Return torch.view_as_real of them.",
        )
    value = value.resolve_conj().resolve_neg()
    try:
        array: npt.NDArray[Any] = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    except TypeError as error:
        kind = str(value.dtype).removeprefix("torch.")
        raise NotExportable(f"forward() returns {kind} as '{name}', which cannot be compared.", "Cast it.") from error
    return array


class _Embeddings(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches for lookups of an input's own values in a table."""

    supports_higher_order_operators = True

    def __init__(self, inputs: Mapping[str, torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._inputs = {name: value for name, value in inputs.items() if not value.is_floating_point()}
        self.rows: dict[str, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten.embedding.default or "embedding_bag" in str(function):
            table, rows = args[0], args[1].flatten().long()
            for name, value in self._inputs.items():
                if value.numel() == rows.numel() and torch.equal(value.flatten().long(), rows):
                    self.rows[name] = min(len(table), self.rows.get(name, len(table)))
        return function(*args, **(kwargs or {}))


def _first_rows_part(one: Arrays, other: Arrays, axes: Mapping[str, Mapping[int, str]]) -> Iterator[bool]:
    """For each output with a batch, whether its first row is another."""
    for name, words in axes.items():
        for axis, word in words.items():
            if word == BATCH and name in other and one[name].shape == other[name].shape:
                yield not _close(np.take(one[name], 0, axis=axis), np.take(other[name], 0, axis=axis))


def _same_row(one: torch.Tensor, other: torch.Tensor, length: int) -> bool:
    """Whether the first of ``length`` rows is the same in both; what has no such rows is taken to be."""
    if one.shape != other.shape or one.ndim < 1 or len(one) != length or one.is_complex():
        return True
    return _close(_array("", one[:1]), _array("", other[:1]))


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and bool(torch.allclose(one.float(), other.float(), rtol=0, atol=0, equal_nan=True))


def _zeros_apart(pair: tuple[npt.NDArray[Any], npt.NDArray[Any]]) -> bool:
    """Whether the second is zero wherever it is far from the first."""
    one, other = pair
    return one.shape == other.shape and bool(np.all(np.isclose(one, other, rtol=1e-3, atol=1e-5) | (other == 0)))


def _close(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    """The same but for the order of sums, which threads may change."""
    if one.shape != other.shape:
        return False
    if not np.issubdtype(one.dtype, np.inexact):
        return bool(np.array_equal(one, other))
    largest = float(np.abs(one[np.isfinite(one)]).max(initial=0.0))
    return bool(np.allclose(one, other, rtol=1e-4, atol=1e-5 * largest, equal_nan=True))

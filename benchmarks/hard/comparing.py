"""Is a converted file right? By a measure of its own: every output, every channel by its own variance.

The fp32 file runs without ONNX Runtime's optimizer, the converted one with it, and with products that do not saturate.
Half precision is emulated besides, by the onnx package's reference evaluator: the CPU provider computes it in fp32.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Feeds = Sequence[dict[str, Array]]

LEAST_DB = 8.0
_LEAST_VALUES = 16  # of a channel, before its variance says anything
LEAST_AGREEMENT = 0.8  # of integers, indices and labels
_NEAR, _MOST_ROWS = 0.05, 2000  # of a column's range: rows of floats that count as one
_DATA_DEPENDENT = {"NonZero", "NonMaxSuppression", "Unique", "Compress"}
_EMULATED_BYTES = 1 << 20
_NOT_FINITE = "other NaN or infinity"


def compare(source: Path, made: Path, feeds: Feeds, *, half: bool = False) -> str:
    """What is wrong with ``made``, a conversion of ``source``; "" for nothing."""
    try:
        right, names = outputs(source, feeds, exact=True)
    except Exception:  # noqa: BLE001 - a source that does not run has no right values
        return ""
    try:
        got, _ = outputs(made, feeds)
    except Exception as error:  # noqa: BLE001 - the file that nnx called proven
        return f"does not run: {' '.join(str(error).split())[:200]}"
    loose = _lengths_depend_on_data(source)
    wrong = differences(names, right, got, loose=loose)
    if not wrong and half and made.stat().st_size < _EMULATED_BYTES:
        with suppress(Exception):  # not every operator has a reference; half a comparison is none
            wrong = [
                f"in true half precision: {line}"
                for line in differences(names, right, _emulated(made, feeds), loose=loose)
                if line.endswith(_NOT_FINITE)  # it adds up in half precision too, which no hardware does
            ]
    return "; ".join(wrong[:4])


def outputs(path: Path, feeds: Feeds, *, exact: bool = False) -> tuple[list[list[Any]], list[str]]:
    """The outputs of every call and their names; int8 as a processor gives it that does not saturate.

    But for files in which int8 weights are shared, which ONNX Runtime cannot open so: those as they run here.
    """
    session = _session(path, exact=exact, precise=not exact)
    return [session.run(None, feed) for feed in feeds], [output.name for output in session.get_outputs()]


def _session(path: Path, *, exact: bool, precise: bool) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if exact:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if precise:
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of one kind or another
        if precise and "replace the existing tensor" in str(error):
            return _session(path, exact=exact, precise=False)
        raise


def runs(path: Path, feed: dict[str, Array]) -> bool:
    """Whether a file takes this feed."""
    try:
        outputs(path, [feed], exact=True)
    except Exception:  # noqa: BLE001 - any reason will do
        return False
    return True


def differences(
    names: Sequence[str], right: list[list[Any]], got: list[list[Any]], *, loose: bool = False
) -> list[str]:
    """One line for each output that is not what it should be, over all calls together."""
    if got and len(got[0]) != len(right[0]):
        return [f"{len(got[0])} outputs, not {len(right[0])}"]
    found = []
    for index, name in enumerate(names):
        line = _difference([call[index] for call in right], [call[index] for call in got], loose=loose)
        if line:
            found.append(f"{name}: {line}")
    return found


def _difference(right: list[Any], got: list[Any], *, loose: bool) -> str:
    if not all(isinstance(value, np.ndarray) for value in right):
        flat = [_flattened(value) for value in right], [_flattened(value) for value in got]
        if [len(each) for each in flat[0]] != [len(each) for each in flat[1]]:
            return "a sequence of another length"
        pairs = [pair for a, b in zip(*flat, strict=True) for pair in zip(a, b, strict=True)]
        return next((line for a, b in pairs if (line := _difference([a], [b], loose=loose))), "")
    shapes = [(a.shape, b.shape) for a, b in zip(right, got, strict=True) if a.shape != b.shape]
    if shapes and not loose:
        return f"shape {shapes[0][1]}, not {shapes[0][0]}"
    if right[0].dtype.kind != got[0].dtype.kind:
        return f"{got[0].dtype}, not {right[0].dtype}"
    if shapes or right[0].dtype.kind != "f":
        share = np.mean([agreement(a, b) for a, b in zip(right, got, strict=True)])
        return "" if share >= LEAST_AGREEMENT else f"{share:.0%} agree"
    line = _worst_channel(right, got)
    if line and loose:  # boxes in another order
        share = np.mean([agreement(a, b) for a, b in zip(right, got, strict=True)])
        return "" if share >= LEAST_AGREEMENT else line
    return line


def _worst_channel(right: list[Array], got: list[Array]) -> str:
    found = decibels(right, got)
    if found is None:
        return _NOT_FINITE
    where, db = min(found, key=lambda item: item[1])
    return "" if db >= LEAST_DB else f"{where} {db:.1f} dB"


def decibels(right: list[Array], got: list[Array]) -> list[tuple[str, float]] | None:
    """The whole of an output of floats over all calls, then each channel; None where NaN or infinities differ."""
    right, got = ([array.astype(np.float64) for array in arrays] for arrays in (right, got))
    for a, b in zip(right, got, strict=True):
        if not (np.array_equal(np.isnan(a), np.isnan(b)) and np.array_equal(a[np.isinf(a)], b[np.isinf(a)])):
            return None
    finite = [
        (np.where(np.isfinite(a), a, 0.0), np.where(np.isfinite(a), b, 0.0)) for a, b in zip(right, got, strict=True)
    ]
    whole = np.concatenate([a.ravel() for a, _ in finite]), np.concatenate([b.ravel() for _, b in finite])
    found = [("as a whole", _db(*whole, variance=0.0))]
    for axis in sorted({1, right[0].ndim - 1}) if right[0].ndim > 1 else ():
        if len({a.shape[axis] for a in right}) > 1:
            continue
        parts = [
            tuple(np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1) for x in pair) for pair in finite if pair[0].size
        ]
        if not parts or sum(a.shape[1] for a, _ in parts) < _LEAST_VALUES:
            continue
        rows = np.concatenate([a for a, _ in parts], 1), np.concatenate([b for _, b in parts], 1)
        for channel, (a, b) in enumerate(zip(*rows, strict=True)):
            found.append((f"channel {channel} of axis {axis}", _db(a, b, variance=float(whole[0].var()))))
    return found


def _db(right: Array, got: Array, *, variance: float) -> float:
    """Signal over noise, by the values' own variance; by their size where they are constant, and ``variance`` at 0."""
    noise = float(np.mean((right - got) ** 2)) if right.size else 0.0
    if noise == 0.0:
        return np.inf
    size = float(np.mean(right**2))
    own = float(right.var())
    signal = own if own > 1e-10 * size else size or variance or 1e-6
    return float(10 * np.log10(signal / noise)) if np.isfinite(noise) else -np.inf


def agreement(right: Array, got: Array) -> float:
    """The share of equal elements, or of rows that both hold: lengths may depend on the data, and orders on ties."""
    if right.shape == got.shape and (not right.size or float(np.mean(right == got)) >= LEAST_AGREEMENT):
        return 1.0
    if right.ndim == got.ndim == 2 and len(right) == len(got) and right.dtype.kind != "f":
        return max(_rows_agree(right, got), _rows_agree(right.T, got.T))  # NonZero has a column for each place
    return _rows_agree(right, got)


def _rows_agree(right: Array, got: Array) -> float:
    a, b = (np.atleast_1d(x).reshape(-1, x.shape[-1] if x.ndim > 1 else 1) for x in (right, got))
    if a.dtype.kind != "f" or a.shape[1] != b.shape[1]:
        rows = [{tuple(row.tolist()) for row in x} for x in (a, b)]
        return len(rows[0] & rows[1]) / max(len(rows[0] | rows[1]), 1)
    if not len(a) or not len(b):
        return float(len(a) == len(b))
    near = (np.abs(a[:_MOST_ROWS, None] - b[None, :_MOST_ROWS]) <= _NEAR * (np.ptp(a, 0) + 1e-6)).all(-1)
    return float(min(near.any(0).mean(), near.any(1).mean()))


def _flattened(value: Any) -> list[Array]:
    if isinstance(value, dict):
        return [np.asarray(list(value)), *(part for each in value.values() for part in _flattened(each))]
    if isinstance(value, list):
        return [part for each in value for part in _flattened(each)]
    return [np.asarray(value)]


def _lengths_depend_on_data(path: Path) -> bool:
    import onnx

    return any(node.op_type in _DATA_DEPENDENT for node in onnx.load(path, load_external_data=False).graph.node)


def _emulated(path: Path, feeds: Feeds) -> list[list[Any]]:
    import onnx
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(onnx.load(path))
    with np.errstate(all="ignore"):
        return [list(evaluator.run(None, dict(feed))) for feed in feeds]

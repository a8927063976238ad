"""What torch.export assumed about the lengths of dynamic axes: torch.onnx writes a file that forgets it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import onnx
import torch

from exporters import onnx_file
from exporters.errors import Origin, UnlikeLengths, WrongResult

_LENGTHS = (*range(1, 130), 192, 224, 255, 256, 257, 384, 512, 1000, 1023, 1024, 1025, 2048, 4096, 10_000, 100_000)
"""Lengths at which an assumption is looked at: round ones and their neighbours, where people branch."""


@dataclass(frozen=True, kw_only=True)
class Guard:
    """``text`` is an assumption about the axis ``axis``; it does not hold at the length ``broken_at``, the least.

    ``is_limit`` where it says how long the axis may be, and nothing else.
    """

    axis: str
    text: str
    broken_at: int
    is_limit: bool = False


Fixed = Mapping[tuple[str, int], Origin]
"""Where in the user's code an axis of an input became a number, as far as that was seen."""


def fixed_axis(name: str, axis: int, asked: str, length: object, fixed: Fixed) -> WrongResult:
    """The error about an axis that was to be dynamic."""
    origin = fixed.get((name, axis))
    return WrongResult(
        f"The {asked} axis of '{name}' became fixed at {length}{origin or ''}.",
        f"Write forward() without the length of {asked} as a Python number.",
        origin,
    )


def rename(
    model: onnx.ModelProto, program: torch.export.ExportedProgram, axes: Mapping[str, Mapping[int, str]], fixed: Fixed
) -> tuple[Guard, ...]:
    """Give the dynamic axes of ``model`` their names instead of torch's symbols, and read the guards off ``program``.

    Raises WrongResult where two names turned out to be one length, or an axis has one length only.
    """
    symbols: dict[str, tuple[str, Any]] = {}
    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    for (name, wanted), placed in zip(axes.items(), program.graph_signature.user_inputs, strict=True):
        shape = placeholders[str(placed)].meta["val"].shape
        for axis, asked in wanted.items():
            if not isinstance(length := shape[axis], torch.SymInt):
                continue  # it became fixed, which the caller sees in the file
            if (range_ := program.range_constraints.get(length.node.expr)) and range_.lower == range_.upper:
                raise fixed_axis(name, axis, asked, range_.lower, fixed)
            symbol = str(length.node.expr)
            if symbols.setdefault(symbol, (asked, length))[0] != asked:
                raise UnlikeLengths(
                    f"forward() wants {symbols[symbol][0]} and {asked} (axis {axis} of '{name}') to be equal.",
                    "Give both the same name.",
                )
    names = {symbol: asked for symbol, (asked, _) in symbols.items()}
    for graph in onnx_file.graphs_of(model):
        for value in (*graph.input, *graph.output, *graph.value_info):
            for dimension in value.type.tensor_type.shape.dim:
                if dimension.dim_param:
                    dimension.dim_param = _renamed(dimension.dim_param, names)
    return tuple(_guards({symbol: length for symbol, (_, length) in symbols.items()}, names))


def _guards(lengths: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[Guard]:
    if not lengths:
        return
    environment = next(iter(lengths.values())).node.shape_env
    symbols = {str(symbol): symbol for symbol in environment.var_to_range}
    hints = {symbols[name]: length.node.hint for name, length in lengths.items() if name in symbols}
    for name in hints:
        upper = environment.var_to_range[name].upper
        if (limit := _number(upper)) is not None and limit < max(_LENGTHS):
            yield Guard(
                axis=names[str(name)], text=f"{names[str(name)]} <= {limit}", broken_at=limit + 1, is_limit=True
            )
    asserted: Iterable[Any] = chain.from_iterable(environment.deferred_runtime_asserts.values())
    for expression in (item.expr for item in asserted):
        free = expression.free_symbols
        if not free or not free <= set(hints):
            continue  # of a length that the data decide
        for symbol in sorted(free, key=str):
            others = {other: hints[other] for other in free - {symbol}}
            fails = (length for length in _LENGTHS if not _holds(expression, {**others, symbol: length}))
            if (first := next(fails, None)) is not None:
                yield Guard(axis=names[str(symbol)], text=_renamed(str(expression), names), broken_at=first)


def _holds(expression: Any, lengths: Mapping[Any, Any]) -> bool:
    """Whether the assumption is true there; one that cannot be told is taken to be."""
    return str(expression.xreplace({symbol: 0 * symbol + int(length) for symbol, length in lengths.items()})) != "False"


def _number(bound: Any) -> int | None:
    try:
        return int(bound)
    except (TypeError, ValueError, OverflowError, AttributeError):  # infinite
        return None


def _renamed(text: str, names: Mapping[str, str]) -> str:
    return re.sub(r"[A-Za-z_]\w*", lambda found: names.get(found[0], found[0]), text)

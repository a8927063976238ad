"""A ``.pt2`` file, which torch.export.save wrote, as a module with its own examples and dynamic axes."""

import ast
import contextlib
import inspect
import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.export.graph_signature import InputKind, TensorArgument

from exporters import library_output
from exporters.errors import in_words
from exporters.input_tree import planted
from toolchain.errors import BadUsage
from toolchain.inputs.factories import Made
from toolchain.inputs.input_specs import BATCH

_ENTRIES = re.compile(
    r"[^/]+/(archive_format|archive_version|byteorder|version|\.data/\w+|\.format_version|\.storage_alignment"
    r"|extra/[^/]+|models/[^/]+\.json|data/(weights/(weight_\d+|[^/]+\.json)|constants/(tensor_\d+|[^/]+\.json)"
    r"|sample_inputs/[^/]+\.pt))"
)
"""What stands in an archive that is data; others are objects and libraries, which run code when they are loaded."""
_FUNCTIONS = {
    "Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Pow", "Mod", "PythonMod", "FloorDiv", "CeilDiv",
    "CleanDiv", "ModularIndexing", "IntTrueDiv", "FloatTrueDiv", "Max", "Min", "Abs", "Where", "Identity",
    "PowByNatural", "FloatPow", "LShift", "RShift", "ToFloat", "TruncToInt", "FloorToInt", "CeilToInt",
    "RoundToInt", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "Equality", "Unequality",
    "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan",
}  # fmt: skip
"""What an expression of lengths may call: torch evaluates it as Python."""
_LEAST = 2
"""torch.export's own lower end: it takes no length to be 0 or 1."""
_MEND = "Save it anew with torch.export.save of this torch."


def load(path: Path) -> Made:
    """The program, its weights as parameters; nothing in the file is run. BadUsage for what is no such file."""
    if not path.is_file():
        raise BadUsage(f"There is no file {path}.", "Name a .pt2 file that torch.export.save wrote.")
    _require_plain(path)
    try:
        with _weights_alone(), library_output.silent():
            program = torch.export.load(path)
            unlifted = program.module(check_guards=False)
            module = torch.fx.GraphModule(unlifted, unlifted.graph)  # one that has eval() and can be copied
    except OSError:
        raise
    except Exception as error:
        raise BadUsage(f"{path} cannot be read: {in_words(error)}.", _MEND) from error
    examples = _examples(program, module, path)
    axes, follows = _axes(program, examples, path)
    notes = tuple(_notes(program))
    return Made(
        name=str(path), module=module, examples=examples, axes=axes, follows=follows, is_untrained=False, notes=notes
    )


@contextlib.contextmanager
def _weights_alone() -> Iterator[None]:
    """torch.load runs no code from a pickle in the block, whatever it is asked for."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _require_plain(path: Path) -> None:
    """Refuse an archive that holds anything but tensors, numbers and expressions of lengths."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
            written = [archive.read(name) for name in names if name.endswith(".json")]
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, zlib.error) as error:
        raise BadUsage(f"{path} is no .pt2 archive, or it is truncated.", _MEND) from error
    if found := next((name for name in names if not _ENTRIES.fullmatch(name)), None):
        raise BadUsage(
            f"{path} holds more than a program and its tensors ({Path(found).name}), and loading it could run code.",
            "Export the program anew without custom objects and compiled parts.",
        )
    try:
        expressions = [text for content in written for text in _expressions(json.loads(content))]
    except (ValueError, RecursionError) as error:
        raise BadUsage(f"{path} is no .pt2 archive, or it is truncated.", _MEND) from error
    if strange := next((text for text in expressions if not _is_length(text)), None):
        raise BadUsage(f"{path} has no length in {strange[:60]!r}, and loading it could run code.", _MEND)


def _expressions(content: Any) -> Iterator[str]:
    """Every expression that torch would evaluate."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key == "expr_str" and isinstance(value, str):
                yield value
            else:
                yield from _expressions(value)
    elif isinstance(content, list):
        for value in content:
            yield from _expressions(value)


def _is_length(text: str) -> bool:
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    allowed = (
        ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.operator, ast.unaryop, ast.boolop,
        ast.cmpop, ast.Name, ast.Load, ast.Constant, ast.Call, ast.keyword,
    )  # fmt: skip
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    constants = [node.value for node in nodes if isinstance(node, ast.Constant)]
    return (
        all(isinstance(node, allowed) for node in nodes)
        and all(isinstance(each.func, ast.Name) and each.func.id in _FUNCTIONS for each in calls)
        and all(isinstance(value, (bool, int, float)) or _is_name(value) for value in constants)
    )


def _is_name(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\w.]+", value) is not None


def _examples(program: torch.export.ExportedProgram, module: torch.nn.Module, path: Path) -> dict[str, Any]:
    """What the program was exported with, by the names of forward()."""
    if program.example_inputs is None:
        raise BadUsage(f"{path} holds no example inputs.", _MEND)
    arguments, keywords = program.example_inputs
    names = [name for name in inspect.signature(module.forward).parameters if name not in keywords]
    if len(names) < len(arguments):
        raise BadUsage(f"{path} takes arguments without names.", "Export the program with named arguments.")
    return {**dict(zip(names, arguments, strict=False)), **keywords}


def _notes(program: torch.export.ExportedProgram) -> Iterator[str]:
    """For which lengths it was exported, where not for all: a file does not check it."""
    for symbol, known in program.range_constraints.items():
        low, high = (str(end) for end in (known.lower, known.upper))
        if high.isdecimal() or (low.isdecimal() and int(low) > _LEAST):
            yield f"The program was exported for {symbol} from {low} to {high}: beyond, nothing is proven."


Follows = dict[str, Callable[[Mapping[str, int]], int]]


def _axes(
    program: torch.export.ExportedProgram, examples: dict[str, Any], path: Path
) -> tuple[dict[str, dict[int, str]], Follows]:
    """The dynamic axes of the examples' tensors: one name for one symbol, and the batch is what axis 0 is first.

    A length that is computed from others', such as ``2*n``, follows them, where each of those is an axis by itself.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, tree in examples.items():
        planted(tree, name, tensors)
    placeholders = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    given = [each.arg for each in program.graph_signature.input_specs if each.kind is InputKind.USER_INPUT]
    shapes = [placeholders[each.name].shape for each in given if isinstance(each, TensorArgument)]
    if len(shapes) != len(tensors):
        raise BadUsage(
            f"{path} has {len(tensors)} tensors in its examples and takes {len(shapes)}.",
            "Export the program with named arguments.",
        )
    names: dict[str, str] = {}
    computed: dict[str, Any] = {}
    axes: dict[str, dict[int, str]] = {}
    for (name, _), shape in zip(tensors.items(), shapes, strict=True):
        axes[name] = {}
        for axis, length in enumerate(shape):
            if not isinstance(length, torch.SymInt):
                continue
            symbol = length.node.expr
            is_batch = symbol.is_Symbol and axis == 0 and BATCH not in names.values()
            first = BATCH if is_batch else f"{name.replace('.', '_')}_{axis}"
            axes[name][axis] = names.setdefault(str(symbol), first)
            if not symbol.is_Symbol:
                computed[axes[name][axis]] = symbol
    for expression in computed.values():
        if not all(str(symbol) in names for symbol in expression.free_symbols):
            raise BadUsage(
                f"An axis in {path} is as long as {expression}, and nothing is as long as that is computed from.",
                "Export the program with Dim.AUTO there.",
            )
    return axes, {word: partial(_length, expression, names) for word, expression in computed.items()}


def _length(expression: Any, names: Mapping[str, str], lengths: Mapping[str, int]) -> int:
    """What an expression of torch's symbols is where the axes of these ``names`` have ``lengths``."""
    return int(
        expression.xreplace({symbol: 0 * symbol + lengths[names[str(symbol)]] for symbol in expression.free_symbols})
    )

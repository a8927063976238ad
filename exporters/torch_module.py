"""A user's torch.nn.Module, called the way its forward() is written: inputs by name, results flattened to names."""

import copy
import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from exporters.errors import BadOption, NotExportable, in_words
from exporters.input_tree import Tree, filled, grown, leaves

_NUMBERS = {
    bool: torch.bool, torch.SymBool: torch.bool, int: torch.int64, torch.SymInt: torch.int64, float: torch.float32,
    torch.SymFloat: torch.float32,
}  # fmt: skip
"""What Python numbers that forward() returns are in a file; bool comes first, for it is an int too."""
_NAMED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """The module inside torch.compile's, DataParallel's and DistributedDataParallel's wrappers."""
    while True:
        if isinstance(inner := getattr(module, "_orig_mod", None), torch.nn.Module):
            module = inner
        elif isinstance(module, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
            module = module.module
        else:
            return module


def isolated(module: torch.nn.Module) -> torch.nn.Module:
    """A copy with buffers and attributes of its own that shares the parameters: what a run changes stays in it."""
    known: dict[int, Any] = {id(parameter): parameter for parameter in module.parameters()}
    for layer in module.modules():
        # what weight_norm and spectral_norm computed last: they do so anew before each run, and it cannot be copied
        computed = [value for value in vars(layer).values() if isinstance(value, torch.Tensor) and not value.is_leaf]
        known |= {id(value): value.detach().clone() for value in computed}
    try:
        made: torch.nn.Module = copy.deepcopy(module, known)
    except Exception as error:
        raise NotExportable(
            f"{type(module).__qualname__} cannot be copied, so a run would change it: {in_words(error)}.",
            "Keep tensors as parameters or buffers, not as plain attributes.",
        ) from error
    for layer in list(made.modules()):
        for name, child in layer.named_children():
            setattr(layer, name, unwrapped(child))
    return made.eval()


def require_values(module: torch.nn.Module) -> None:
    """Raise NotExportable for parameters and buffers that have no values yet."""
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if isinstance(value, (UninitializedParameter, UninitializedBuffer)):
            raise NotExportable(
                f"The layer of '{name}' does not know its size yet: it is lazy.",
                "Run the module once in the factory, or write the size down.",
            )
        if value.is_meta:
            raise NotExportable(f"'{name}' is on the meta device, without values.", "Make the module on the CPU.")


class Flat(torch.nn.Module):
    """``module`` with tensors in and a tuple of tensors out; ``outputs`` are the names of the last call's.

    ``takes`` says for each of forward()'s inputs which tensors it is made of. Names that are forward()'s own are bound
    by name, others by position. Raises BadOption where they fit neither way.
    """

    def __init__(self, module: torch.nn.Module, takes: Mapping[str, Tree]) -> None:
        super().__init__()
        self.module = module
        self.names = tuple(leaves(takes))
        self.outputs: tuple[str, ...] = ()
        self._positional, self._keywords = bound(module, takes)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = dict(zip(self.names, tensors, strict=True))
        positional = [filled(tree, given) for tree in self._positional]
        result = self.module(*positional, **{name: filled(tree, given) for name, tree in self._keywords.items()})
        found = list(_flattened(result, ""))
        self.outputs = _named([name for name, _ in found], self.names)
        return tuple(value for _, value in found)


def bound(module: torch.nn.Module, takes: Mapping[str, Tree]) -> tuple[list[Tree], dict[str, Tree]]:
    """The positional and the keyword arguments of forward()."""
    if isinstance(module, torch.jit.ScriptModule):
        raise NotExportable(
            "A ScriptModule cannot be exported: torch.export reads Python code.",
            "Export the original nn.Module instead.",
        )
    parameters = inspect.signature(module.forward).parameters
    own = {name: parameter for name, parameter in parameters.items() if parameter.kind in _NAMED}
    takes = grown(takes, set(own))
    kinds = {parameter.kind for parameter in parameters.values()}
    open_ended, any_keyword = inspect.Parameter.VAR_POSITIONAL in kinds, inspect.Parameter.VAR_KEYWORD in kinds
    by_position = [name for name, parameter in own.items() if parameter.kind is not inspect.Parameter.KEYWORD_ONLY]
    takes_text = f"forward() takes {', '.join(parameters) or 'nothing'}"
    known = [name for name in takes if name in own]
    if known and (len(known) == len(takes) or any_keyword):
        first = [name for name in by_position if own[name].kind is inspect.Parameter.POSITIONAL_ONLY and name in takes]
        positional = [takes[name] for name in first]
        keywords = {name: tree for name, tree in takes.items() if name not in first}
        given = set(takes)
    elif not known and any_keyword and not by_position and not open_ended:
        positional, keywords, given = [], dict(takes), set(takes)
    else:
        places = [*by_position, *[""] * (len(takes) if open_ended else 0)]
        misplaced = [name for name, place in zip(takes, places, strict=False) if name in own and name != place]
        if misplaced or len(takes) > len(places):
            strange = ", ".join(name for name in takes if name not in own) or ", ".join(takes)
            raise BadOption(f"{takes_text}, given are {', '.join(takes)}.", f"Name {strange} as forward() does.")
        positional, keywords = list(takes.values()), {}
        given = set(places[: len(takes)])
    required = [name for name, parameter in own.items() if parameter.default is inspect.Parameter.empty]
    if missing := [name for name in required if name not in given]:
        raise BadOption(
            f"{takes_text}, and nothing is given for {', '.join(missing)}.",
            f"Give an example of {missing[0]} too, or a default value.",
        )
    return positional, keywords


def _flattened(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in what forward() returned, with their names: keys, fields and places, joined by full stops."""
    if isinstance(value, torch.Tensor):
        if value.layout is not torch.strided:
            raise NotExportable(f"forward() returns a sparse tensor{_at(name)}.", "Return value.to_dense().")
        yield name or "output", value
    elif value is None:
        return
    elif (kind := next((_NUMBERS[each] for each in _NUMBERS if isinstance(value, each)), None)) is not None:
        yield name or "output", torch.scalar_tensor(value, dtype=kind)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flattened(inner, f"{name}.{key}" if name else str(key))
    elif hasattr(value, "_fields") or dataclasses.is_dataclass(value):
        fields = getattr(value, "_fields", None) or [field.name for field in dataclasses.fields(value)]
        for field in fields:
            yield from _flattened(getattr(value, field), f"{name}.{field}" if name else field)
    elif isinstance(value, (list, tuple)):
        inner_values = [inner for inner in value if inner is not None]
        if not name and len(inner_values) == 1:
            yield from _flattened(inner_values[0], "")
            return
        for place, inner in enumerate(value):
            yield from _flattened(inner, f"{name}.{place}" if name else f"output{place}")
    else:
        raise NotExportable(
            f"forward() returns a {type(value).__name__}{_at(name)}.",
            "Return tensors, or tuples, lists, dicts or dataclasses of tensors.",
        )


def _at(name: str) -> str:
    return f" as '{name}'" if name else ""


def _named(names: Sequence[str], inputs: Sequence[str]) -> tuple[str, ...]:
    """``names``, longer where an input or an output before has it already."""
    chosen: list[str] = []
    for name in names:
        made = name
        while made in inputs or made in chosen or (made != name and made in names):
            made += "_output"
        chosen.append(made)
    return tuple(chosen)

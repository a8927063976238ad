"""What ``nnx inspect`` says of a model, and its JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from toolchain import strict_json

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Port:
    """An input or output. ``kind`` is a type as numpy names it, or ONNX's own: ``seq(tensor(float))``.

    ``shape`` holds a number for a fixed axis, a name for a dynamic one ("?" without one); None where no shape is
    stated, as for sequences.
    """

    name: str
    kind: str
    shape: tuple[int | str, ...] | None
    optional: bool = False
    """Whether it has a default value in the file."""

    def __str__(self) -> str:
        return self.kind + ("" if self.shape is None else f"[{', '.join(map(str, self.shape))}]")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A constant in the file; ``elements`` are its values, 4-bit ones counted singly."""

    name: str
    kind: str
    shape: tuple[int, ...]
    elements: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class OfKind:
    """All constants of one type."""

    kind: str
    constants: int
    elements: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator: how many nodes it has, nested ones too, and their multiplications; None where none is counted."""

    name: str
    nodes: int
    macs: int | None


@dataclass(frozen=True, kw_only=True)
class Uncounted:
    """Nodes of an operator whose multiplications are not in the total, and why."""

    operator: str
    nodes: int
    why: str


@dataclass(frozen=True, kw_only=True)
class Work:
    """Multiply-accumulates of one run at ``lengths``, of which nobody gave those in ``assumed``."""

    macs: int
    lengths: Mapping[str, int]
    assumed: tuple[str, ...]
    not_counted: tuple[Uncounted, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Format:
    """A way in which the file holds or computes numbers in fewer bits, and what says so."""

    name: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Target:
    """Whether something runs the file; None where that is not known. ``asked`` is false for what is only documented."""

    name: str
    runs: bool | None
    why: str
    asked: bool


@dataclass(frozen=True, kw_only=True)
class Module:
    """A module of the network that the file was exported from, by its path, with all that is inside it."""

    path: str
    kind: str
    nodes: int
    parameters: int
    macs: int


@dataclass(frozen=True, kw_only=True)
class Description:
    """A whole file. ``lineage`` is what nnx wrote into it about its making, ``metadata`` what else it says of itself.

    ``modules_from`` says what the tree of modules was read from, empty where there is none.
    """

    model: str
    sha256: str
    size_bytes: int
    precision: str
    ir_version: int
    opsets: Mapping[str, int]
    producer: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    parameters: int
    work: Work
    types: tuple[OfKind, ...]
    largest: tuple[Stored, ...]
    operators: tuple[Operator, ...]
    functions: tuple[str, ...]
    formats: tuple[Format, ...]
    targets: tuple[Target, ...]
    modules: tuple[Module, ...]
    modules_from: str
    lineage: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        content = {"schema_version": SCHEMA_VERSION, **asdict(self)}
        return json.dumps(strict_json.finite(content), indent=1, allow_nan=False)

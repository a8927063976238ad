"""What ``nnx diff`` says of two models, and its JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from toolchain import strict_json

SCHEMA_VERSION = 1
NAME = "name"
"""The last word on a change of nothing but a name."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """Something that is otherwise in the second model: what of it, as it is in each; empty where it is not there."""

    where: str
    what: str
    a: str
    b: str

    @property
    def is_name(self) -> bool:
        return self.what.endswith(f" {NAME}")


@dataclass(frozen=True, kw_only=True)
class WeightChange:
    """A weight whose values, shape or type differ. The SQNR is that of the second's values, None where none fit."""

    a: str
    b: str
    node: str
    kind_a: str
    kind_b: str
    sqnr_db: float | None
    max_difference: float | None


@dataclass(frozen=True, kw_only=True)
class TensorChange:
    """One tensor in both models: how far the second's values are off, in the order in which they are computed.

    ``equal`` is the share of values that are the same. The SQNR is None for what is no float, and for other shapes.
    """

    a: str
    b: str
    node: str
    operator: str
    equal: float
    sqnr_db: float | None
    max_difference: float | None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Values:
    """All tensors that were compared on ``samples``, but ``left_out``, which no output of a model can be.

    ``differs`` is the first that is not bit for bit the same, ``parts`` the first that is further off than
    ``limit_db``, ``outputs`` are those of the model.
    """

    samples: str
    count: int
    limit_db: float
    tensors: tuple[TensorChange, ...]
    left_out: int
    outputs: tuple[TensorChange, ...]
    differs: TensorChange | None
    parts: TensorChange | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two models side by side. ``only_a`` and ``only_b`` are nodes that the other has nothing like.

    ``rounding_a`` and ``rounding_b`` count the nodes that only round or cast. ``why_no_values`` says why nothing was
    run, empty where it was.
    """

    a: str
    b: str
    precision_a: str
    precision_b: str
    interface: tuple[Change, ...]
    matched: int
    renamed: int
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    changed: tuple[Change, ...]
    rounding_a: Mapping[str, int]
    rounding_b: Mapping[str, int]
    weights_equal: int
    weights: tuple[WeightChange, ...]
    values: Values | None
    why_no_values: str = ""

    @property
    def alike(self) -> bool:
        """Whether nothing but names differs, in what the files hold and in values, if there are any."""
        interface = [each for each in self.interface if not each.is_name]
        found = (interface, self.only_a, self.only_b, self.changed, self.weights)
        rounding = dict(self.rounding_a) != dict(self.rounding_b)
        return not any(found) and not rounding and (self.values is None or self.values.differs is None)

    def to_json(self) -> str:
        content = {"schema_version": SCHEMA_VERSION, "alike": self.alike, **asdict(self)}
        return json.dumps(strict_json.finite(content), indent=1, allow_nan=False)

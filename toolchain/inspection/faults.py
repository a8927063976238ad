"""What is wrong with a model file: one :class:`Fault` each, and their JSON."""

import json
from dataclasses import asdict, dataclass

SCHEMA_VERSION = 1
FAULT, WARNING = "fault", "warning"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """``kind`` is the check that found it, ``where`` a node or constant, empty for the file as a whole.

    A ``warning`` is what a file may have and still do its work; only a fault makes ``nnx check`` exit with 1.
    """

    kind: str
    where: str
    what: str
    do: str
    severity: str = FAULT


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """All faults of a file, in the order of the checks, and the checks that could not be made, with the reason."""

    model: str
    faults: tuple[Fault, ...]
    left_out: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        return not any(each.severity == FAULT for each in self.faults)

    def count(self, severity: str) -> int:
        return sum(each.severity == severity for each in self.faults)

    def to_json(self) -> str:
        content = {"schema_version": SCHEMA_VERSION, "sound": self.sound, **asdict(self)}
        return json.dumps(content, indent=1)

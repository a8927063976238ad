"""What a search through a model found: the smallest module that fails, and how."""

import dataclasses
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from exporters.errors import Origin
from toolchain.errors import CheckFailed


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The module at path ``module`` of a model, empty for the model itself, of class ``kind``, is the smallest to fail.

    ``file`` and ``line`` are its forward()'s; ``what`` happens and what to ``do``; ``origin`` is the operator and line
    in question, if known; ``rungs`` are the ways of capturing it that failed, each with its reason, and ``exports``
    whether another one agrees with PyTorch. ``repro`` is the file that shows it, ``no_repro`` why there is none.
    """

    module: str
    kind: str
    file: str
    line: int
    what: str
    do: str
    origin: Origin | None
    rungs: tuple[tuple[str, str], ...] = ()
    exports: bool = False
    repro: Path | None = None
    no_repro: str = ""

    @staticmethod
    def of(module: torch.nn.Module, path: str, *, what: str, do: str, origin: Origin | None, **more: Any) -> "Finding":
        """With the place of ``module``'s forward()."""
        file, line = _place_of(module)
        kind = type(module).__qualname__
        return Finding(module=path, kind=kind, file=file, line=line, what=what, do=do, origin=origin, **more)

    @property
    def text(self) -> str:
        """Lines for a person."""
        named = f"'{self.module}' ({self.kind})" if self.module else f"The model itself ({self.kind})"
        at = f", {Path(self.file).name}, line {self.line}" if self.file else ""
        lines = [f"{named}{at}: {self.what}", self.do]
        lines += [f"  {rung}: {why}" for rung, why in self.rungs]
        if self.exports:
            lines.append("  Another way of capturing it agrees with PyTorch.")
        if self.repro is not None:
            lines.append(f"{self.repro} shows it: python {self.repro}")
        if self.no_repro:
            lines.append(f"No file that shows it was written: {self.no_repro}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return {**dataclasses.asdict(self), "repro": None if self.repro is None else str(self.repro)}

    def to_error(self, model: str) -> CheckFailed:
        """What the command ends with."""
        where = f"'{self.module}' ({self.kind})" if self.module else "the model as a whole"
        return CheckFailed(f"{model} does not export as it should: the smallest part that fails is {where}.", self.do)


def _place_of(module: torch.nn.Module) -> tuple[str, int]:
    """The file and line of its forward(); nothing where that was not read from a file."""
    try:
        forward = inspect.unwrap(type(module).forward)
        return inspect.getsourcefile(forward) or "", forward.__code__.co_firstlineno
    except (TypeError, AttributeError, ValueError):
        return "", 0

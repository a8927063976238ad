"""What can go wrong while a model file is made.

ExporterError
├── BadModelFile         the file is missing, is not ONNX, is truncated, or is not what the step takes
├── NotApplicable        the model has nothing that the step works on
├── BadCalibrationData   the samples are missing or do not fit the model's inputs
├── BadOption            an option is outside what the step can honour (an opset, a target)
├── NotExportable        the module could not be captured or translated
│   └── AnotherRoad      it takes another road at another length
├── NotConvertible       a library below us could not convert this graph
└── WrongResult          a post-condition failed: what was made is not what was asked for
    └── UnlikeLengths    two axes that were given two names are one length
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_LONGEST = 300


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What in a user's module an error is about, as far as it is known.

    ``operator`` is torch's, such as ``aten.floor.default``; ``module`` is the path of the layer in the model, ``kind``
    its class; ``line`` of ``file`` is where their code asks for it. Empty and 0 is unknown.
    """

    operator: str = ""
    module: str = ""
    kind: str = ""
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        """To follow a statement: `` of 'head' (Head), in net.py, line 12``."""
        named = f" of '{self.module}' ({self.kind})" if self.module else ""
        return named + (
            f", in {self.file.replace(chr(92), '/').rpartition('/')[2]}, line {self.line}" if self.file else ""
        )


class ExporterError(Exception):
    """A failure that a user can act on: ``what`` happened, and what to ``do``, one sentence each.

    ``origin`` is what in their code it is about, where that is known.
    """

    def __init__(self, what: str, do: str, origin: Origin | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.do = do
        self.origin = origin


class BadModelFile(ExporterError):
    """The file is missing, is not ONNX, is truncated, or is not what the step takes."""


class NotApplicable(ExporterError):
    """The model has nothing that the step works on."""


class BadCalibrationData(ExporterError):
    """The samples are missing or do not fit the model's inputs."""


class BadOption(ExporterError):
    """An option is outside what the step can honour."""


class NotExportable(ExporterError):
    """The module could not be captured by torch.export or translated to ONNX."""


class AnotherRoad(NotExportable):
    """forward() takes another road at ``lengths``: no file would be right there and elsewhere."""

    def __init__(self, what: str, do: str, lengths: Mapping[str, int] | None = None) -> None:
        super().__init__(what, do)
        self.lengths = dict(lengths or {})


class NotConvertible(ExporterError):
    """A library below us could not convert this graph."""


class WrongResult(ExporterError):
    """A post-condition failed: what was made is not what was asked for."""


class UnlikeLengths(WrongResult):
    """Two axes that were given two names are one length to forward()."""


def in_words(error: BaseException) -> str:
    """What code that is not ours raised, in one line: its message may be empty, long, or raise in its turn."""
    kind = type(error).__name__
    try:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    except Exception:  # noqa: BLE001 - their __str__
        lines = []
    return f"{kind}: {lines[0][:_LONGEST].rstrip('.:')}" if lines else kind


def causes(error: BaseException) -> Iterator[BaseException]:
    """What an error was raised from, and so on: a boundary says what it was about, its cause why."""
    seen = {id(error)}
    while (cause := error.__cause__) is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        error = cause

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

_LONGEST = 300


class ExporterError(Exception):
    """A failure that a user can act on: ``what`` happened, and what to ``do``, one sentence each."""

    def __init__(self, what: str, do: str) -> None:
        super().__init__(what)
        self.what = what
        self.do = do


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
    """forward() takes another road at another length: no file would be right at all of them."""


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

"""Ways in which torch captures a module and translates it, from the one that loses least to the one that loses most."""

import contextlib
import enum
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import torch
from torch._logging._internal import LazyTraceHandler
from torch.jit._trace import TracerWarning
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from exporters import recurrent_shapes, torch_origin, torch_weights, transformers_rung
from exporters.errors import ExporterError, NotExportable, Origin, causes
from exporters.library_output import silent
from exporters.onnx_file import one_line, some
from exporters.replaced import replaced
from exporters.torch_module import Flat

_OLDEST_NEWEST = 20
"""The highest opset that the older exporter writes."""
_NO_TRANSLATION = "torch.onnx has no translation of"
_RECURRENT = r"torch\.nn\.(modules|utils)\.rnn$"
"""Torch's own code that asks for lengths as numbers where the older exporter follows it all the same."""
_DECIDING = ("aten._local_scalar_dense", "aten.equal", "aten.allclose", "aten.is_nonzero", "aten.item")


class Rung(enum.Enum):
    """A way to capture a module. Each is tried where those before it failed, or gave a file that is wrong.

    transformers' is for models of that library.
    """

    NON_STRICT = "torch.export"
    TRANSFORMERS = "transformers' exporter"
    STRICT = "torch.export, strict"
    DRAFT = "draft_export"
    OLDER = "the older exporter"


@dataclass(frozen=True, kw_only=True)
class Capture:
    """What is captured: ``flat`` on ``inputs``, whose dynamic axes are ``axes``, and how it is to be written."""

    flat: Flat
    inputs: Mapping[str, torch.Tensor]
    axes: Mapping[str, Mapping[int, str]]
    output_names: tuple[str, ...]
    opset: int

    @property
    def name(self) -> str:
        return f"{type(self.flat.module).__module__}.{type(self.flat.module).__qualname__}"

    @property
    def shown(self) -> tuple[torch.Tensor, ...]:
        """Copies in which no dynamic axis has the length 0 or 1, which torch.export takes for ever."""
        return tuple(_shown(value, self.axes.get(name, {})) for name, value in self.inputs.items())

    @property
    def dynamic(self) -> Any:
        # AUTO, not named Dims: from those torch.onnx takes its own "suggested fixes", which make an axis static or cut
        # its range without a word; and an LSTM's time stays dynamic under AUTO alone
        return (tuple(dict.fromkeys(self.axes.get(name, {}), torch.export.Dim.AUTO) for name in self.inputs),)


@dataclass(frozen=True, kw_only=True)
class Translated:
    """The model, and the program that it was translated from, which the older exporter does not have.

    ``fixed`` says where in the user's code an axis of an input became a number, as far as that was seen.
    """

    model: onnx.ModelProto
    program: torch.export.ExportedProgram | None = None
    fixed: Mapping[tuple[str, int], Origin] = field(default_factory=dict)


def captured(capture: Capture, rung: Rung) -> Translated:
    """What ``rung`` makes of it. Raises NotExportable that says where in the module the first trouble is, if known."""
    with (
        silent(),
        contextlib.redirect_stderr(io.StringIO()),
        torch_origin.watching_lengths([*capture.inputs]) as fixed,
        # torch runs through attention twice, and where the kernels that it chooses lay their results out in two ways,
        # a view of the first is none of the second; the file says attention, not by which kernel
        sdpa_kernel(SDPBackend.MATH),
        recurrent_shapes.at_any_length(),
    ):
        try:
            if rung is Rung.OLDER:
                return Translated(model=_by_older(capture))
            if rung is Rung.TRANSFORMERS:
                made = transformers_rung.translated(
                    capture.flat, lambda: _exported(capture), partial(_to_onnx, capture)
                )
            else:
                made = _to_onnx(capture, _program(capture, rung))
        except Exception as error:  # torch.export raises whatever the module's own code raises
            cause = error.__cause__ or error
            if isinstance(cause, ExporterError):
                raise cause from error
            origin = _origin(error, capture)
            said = _said(error)
            raise NotExportable(
                f"{capture.name} could not be exported: {said}{origin or ''}.",
                "Write that part with operators that have one."
                if _NO_TRANSLATION in said
                else "Check that its forward() runs on these inputs and does not branch on tensor values.",
                origin,
            ) from error
        if made is None or made.exported_program is None:
            raise NotExportable(f"{capture.name} gave no ONNX program.", "Update torch and onnxscript.")
        model = torch_weights.proto_of(made.model)  # which logs what it leaves out
        return Translated(model=model, program=made.exported_program, fixed=fixed)


class _Assumed(Exception):
    """What draft_export took for granted about values: a file would not check it."""

    def __init__(self, failures: Sequence[Any], files: Mapping[int, str]) -> None:
        expressions = [str(each.data.get("expr") or each.data.get("op") or each.failure_type.name) for each in failures]
        super().__init__(f"it would hold only where {some(list(dict.fromkeys(expressions)))}")
        stack = failures[0].data.get("user_stack") or failures[0].data.get("stack") or []
        self.frames = [(files.get(frame["filename"], "<unknown>"), frame["line"]) for frame in stack]


def rungs_of(module: torch.nn.Module) -> tuple[Rung, ...]:
    """The ways that can capture ``module``, in the order in which they are tried."""
    return tuple(rung for rung in Rung if rung is not Rung.TRANSFORMERS or transformers_rung.concerns(module))


def _to_onnx(capture: Capture, program: torch.export.ExportedProgram | None, **options: Any) -> Any:
    """The translation of ``program``, or of what torch.onnx captures itself."""
    return torch.onnx.export(
        program or capture.flat,
        () if program else capture.shown,
        dynamo=True,
        verbose=False,
        input_names=tuple(capture.inputs),
        output_names=capture.output_names,
        dynamic_shapes=None if program else capture.dynamic,
        opset_version=capture.opset,
        **options,
    )


def _exported(capture: Capture, *, strict: bool = False) -> torch.export.ExportedProgram:
    return torch.export.export(capture.flat, capture.shown, dynamic_shapes=capture.dynamic, strict=strict)


def _program(capture: Capture, rung: Rung) -> torch.export.ExportedProgram | None:
    """The program of a rung that torch.onnx does not make itself."""
    if rung is Rung.STRICT:
        return _exported(capture, strict=True)
    if rung is Rung.DRAFT:
        with replaced(LazyTraceHandler, "emit", lambda *_: None):  # it would leave logs beside TMPDIR's files
            program = torch.export.draft_export(capture.flat, capture.shown, dynamic_shapes=capture.dynamic)
        report = program._report  # type: ignore[attr-defined]
        if report.failures:
            raise _Assumed(report.failures, report.str_to_filename)
        return program
    return None


class _Decisions(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the operators by which Python learns a tensor's values, but in torch's recurrent layers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(function).removesuffix(".default") in _DECIDING and not _in_a_recurrent_layer():
            self.seen.append(str(function).removesuffix(".default"))
        return function(*args, **(kwargs or {}))


def _in_a_recurrent_layer() -> bool:
    """Whether the innermost code but torch's machinery is such a layer, or what packs its sequences."""
    frame = sys._getframe(1)
    while (name := frame.f_globals.get("__name__", "")).startswith(("torch.", __name__)) and frame.f_back:
        if re.match(_RECURRENT, name):
            return True
        frame = frame.f_back
    return False


def _by_older(capture: Capture) -> onnx.ModelProto:
    """By tracing, which follows one run: a module in which Python decides by a tensor's values is refused.

    But where torch's recurrent layers do, and what packs sequences for them: the exporter knows those.
    """
    if capture.opset > _OLDEST_NEWEST:
        raise NotExportable(f"It writes no opset above {_OLDEST_NEWEST}.", f"Ask for --opset {_OLDEST_NEWEST}.")
    with _Decisions() as decisions, torch.no_grad():
        capture.flat(*capture.shown)
    if decisions.seen:
        raise NotExportable(
            f"Python decides by a tensor's values in forward() ({decisions.seen[0]}).", "Let torch decide: torch.where."
        )
    written = io.BytesIO()
    with _descriptors_silent(), warnings.catch_warnings():
        warnings.simplefilter("error", TracerWarning)
        warnings.filterwarnings("ignore", category=TracerWarning, module=_RECURRENT)
        torch.onnx.export(
            capture.flat,
            capture.shown,
            written,  # type: ignore[arg-type]
            dynamo=False,
            input_names=tuple(capture.inputs),
            output_names=capture.output_names,
            dynamic_axes={name: dict(words) for name, words in capture.axes.items()},
            opset_version=capture.opset,
        )
    return onnx.load_from_string(written.getvalue())


def _said(error: BaseException) -> str:
    """The library's reason, in one line."""
    chain = [error, *causes(error)]
    last = one_line(chain[-1])
    if missing := re.search(r"No ONNX function found for <OpOverload\(op='([\w.:]+)', overload='(\w+)'", last):
        return f"{_NO_TRANSLATION} {missing[1]}.{missing[2]}"
    said = last if len(chain) > 1 else one_line(error)
    if isinstance(chain[-1], TracerWarning):
        return said.partition(".")[0]
    return re.split(r" \(unhinted| \[Caused by| Please feel free| Please file an issue", said)[0]


def _shown(value: torch.Tensor, axes: Mapping[int, str]) -> torch.Tensor:
    shown = value.detach().clone()
    for axis in axes:
        if shown.shape[axis] == 1:
            shown = torch.cat([shown, shown], axis)
    return shown


@contextlib.contextmanager
def _descriptors_silent() -> Iterator[None]:
    """Keep what torch's own code prints, below Python."""
    kept = [(number, os.dup(number)) for number in (1, 2)]
    try:
        with Path(os.devnull).open("wb") as nowhere:
            for number, _ in kept:
                os.dup2(nowhere.fileno(), number)
        yield
    finally:
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)


def _origin(error: BaseException, capture: Capture) -> Origin | None:
    """Where in the user's code it went wrong: where it ran last, or asks for what is not translated."""
    chain = [error, *causes(error)]
    if assumed := next((each for each in chain if isinstance(each, _Assumed)), None):
        return torch_origin.of_frames(assumed.frames)
    if found := torch_origin.of_error(chain):
        return found
    named = next((node for each in chain if (node := re.search(r"translating node %(\w+)", str(each)))), None)
    if named is None:
        return None
    try:
        program = torch.export.export(capture.flat, capture.shown, dynamic_shapes=capture.dynamic).run_decompositions()
    except Exception:  # noqa: BLE001 - it is about another failure
        return None
    return torch_origin.of_named(named[1], program)

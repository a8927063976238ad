"""One module of a model tried alone: on what reaches it there, up the same ladder and through the same proof."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from exporters.errors import ExporterError
from runtimes.errors import RuntimesError
from toolchain.bisection.calls import Place
from toolchain.bisection.inside import inside
from toolchain.conversion import ladder, settling
from toolchain.conversion.ladder import Failed
from toolchain.conversion.reference import DoesNotRun, Reference
from toolchain.conversion.settling import Settled
from toolchain.conversion.target import Target
from toolchain.errors import BadUsage, CheckFailed, NnxError, NotAvailable

Fault = NnxError | ExporterError | RuntimesError


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What came of a module: the ``rungs`` that failed, whether one ``agreed``, or ``trouble`` that no rung mends.

    ``unstable``: the trouble is that its answer is another each time. ``coupled`` says that samples of a batch
    influence each other in it, ``notes`` are said of it, and of the file that agreed.
    """

    place: Place
    reference: Reference
    found: Settled
    trouble: Fault | None = None
    unstable: bool = False
    rungs: tuple[Failed, ...] = ()
    agreed: bool = False
    coupled: str = ""
    notes: Sequence[str] = ()

    @property
    def fault(self) -> Fault | None:
        """Why it fails, if it does: in whatever way it is captured, or in the first."""
        return self.trouble or (self.rungs[0].error if self.rungs else None)

    @cached_property
    def kind(self) -> str:
        """Its class."""
        return type(self.reference.module).__qualname__


class Trials:
    """The modules of ``whole``, which was ``found`` to run, as files for ``target``."""

    def __init__(self, whole: Reference, found: Settled, target: Target) -> None:
        self.whole = whole
        self.found = found
        self.target = target

    def of(self, place: Place, *, exported: bool = True) -> Tried | None:
        """What comes of the module at ``place`` alone; None where it cannot be called alone, or be compared.

        Unless ``exported``, it is run in PyTorch alone: what it does there is in question.
        """
        if not place.path:
            return self._tried(place, self.whole, self.found, exported)
        try:
            example = inside(self.whole, self.found, place)
            module = self.whole.module.get_submodule(place.path)
            reference = Reference.of(module, example.takes, in_fp32=False)
            outputs = settling.moving(reference, example, self.found.lengths, self.found.scale)
        except NotAvailable:
            raise
        except (NnxError, ExporterError):  # what reaches it, or what it returns, is nothing that a file has
            return None
        found = Settled(
            example=example,
            lengths=self.found.lengths,
            scale=self.found.scale,
            seconds=2 * self.found.seconds,
            outputs=outputs,
            notes=(),
        )
        return self._tried(place, reference, found, exported)

    def _tried(self, place: Place, reference: Reference, found: Settled, exported: bool) -> Tried:
        made = Tried(place=place, reference=reference, found=found)
        rungs: list[Failed] = []
        try:
            arrays = reference.fed(found.example.at(found.lengths))
            try:
                made = replace(made, notes=tuple(reference.require_stateless(arrays)))
            except (BadUsage, CheckFailed) as error:
                return replace(made, trouble=error, unstable=True)
            coupled = "".join(reference.coupling(arrays, found.example.axes, found.outputs))
            if not exported:
                return replace(made, agreed=True, coupled=coupled)
            with tempfile.TemporaryDirectory(prefix="nnx-bisect-") as folder:
                proven = ladder.climbed(
                    reference,
                    found,
                    Path(folder) / "part.onnx",
                    output_axes=found.outputs,
                    target=self.target,
                    facts={},
                    failed=rungs.append,
                )
        except (DoesNotRun, NotAvailable):
            raise
        except (NnxError, ExporterError, RuntimesError) as error:
            if rungs and error is rungs[0].error:
                return replace(made, rungs=tuple(rungs))
            return replace(made, trouble=error, rungs=tuple(rungs))
        notes = (*made.notes, *proven.artifact.notes)
        return replace(made, rungs=tuple(rungs), agreed=True, coupled=coupled, notes=notes)

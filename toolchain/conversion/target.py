"""What a file is written for: an operator set, an IR version, a release of ONNX Runtime that has to take it."""

from dataclasses import dataclass

import onnx

from exporters.model_file import ModelFile
from exporters.torch_onnx import DEFAULT_OPSET
from toolchain.errors import BadUsage, CheckFailed
from toolchain.inspection import releases, targets
from toolchain.inspection.releases import Release

_WRITTEN_IR = 10
"""What torch.onnx writes."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """``ir_version`` is None where the writer's own does."""

    opset: int = DEFAULT_OPSET
    ir_version: int | None = None
    release: Release | None = None

    @staticmethod
    def of(
        release: str | None, *, opset: int | None, ir_version: int | None, file: ModelFile | None = None
    ) -> "Target":
        """What is asked for, else what ``file`` has or an export would, but no more than the release takes.

        Raises BadUsage for an unknown release, and where more is asked for than it takes.
        """
        usual = (file.opset, file.ir_version) if file is not None else (DEFAULT_OPSET, _WRITTEN_IR)
        if release is None:
            return Target(opset=opset or usual[0], ir_version=ir_version)
        found = releases.release(release)
        for what, asked, most in (("opset", opset, found.opset), ("IR version", ir_version, found.ir_version)):
            if asked is not None and asked > most:
                raise BadUsage(
                    f"{found.label} takes no {what} above {most}.", f"Ask for {most} or less, or leave it out."
                )
        return Target(
            opset=opset or min(usual[0], found.opset),
            ir_version=ir_version or min(usual[1], found.ir_version),
            release=found,
        )

    def require(self, model: onnx.ModelProto) -> None:
        """Raise CheckFailed for what the release does not have that ``model`` wants."""
        if self.release is None:
            return
        if lacks := list(targets.lacking(model, self.release)):
            more = f"; {len(lacks) - 1} more of the kind" if len(lacks) > 1 else ""
            raise CheckFailed(
                f"{self.release.label} could not run the file: {lacks[0]}{more}.",
                "No file was written. Choose a newer release, or another --opset.",
            )

"""What a conversion is calibrated on and judged by."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from exporters.calibration import data as calibration_data
from exporters.model_file import ModelFile
from toolchain.accuracy.metrics.built_in import TOP1
from toolchain.accuracy.metrics.metric import Metric
from toolchain.inputs import made_up, samples
from toolchain.inputs.samples import Samples
from toolchain.progress import SILENT, Progress

_MADE_SAMPLES = 32


@dataclass(frozen=True, kw_only=True)
class Given:
    """``calibration`` is training data, None to make do without; ``judged_on`` shares no sample with it."""

    calibration: Samples | None
    judged_on: Samples


Source = Callable[[ModelFile, bool], Given]
"""(model, whether anything will be calibrated) -> samples that fit it, once it is known that it can be converted."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Samples by their names, as :func:`samples.named` takes them.

    ``calibration`` is training data, ``count`` samples of it; ``evaluation`` is held out, None for the calibration
    source's own held-out part; ``metric`` is what their right answers are for; ``folder`` holds the data set of a
    recipe.
    """

    calibration: str | None = None
    evaluation: str | None = None
    count: int = 256
    metric: Metric = TOP1
    folder: Path | None = None

    def source(self, progress: Progress = SILENT) -> Source:
        """Where nothing real is named, seeded noise judges, and that is said."""
        return lambda model, calibrates: self._given(model, progress, calibrates=calibrates)

    def _given(self, model: ModelFile, progress: Progress, *, calibrates: bool) -> Given:
        if self.calibration is None or not calibrates:
            return Given(calibration=None, judged_on=self._judging(model, progress))
        chosen, real = samples.for_calibration(
            self.calibration,
            self.folder,
            count=self.count,
            model=model,
            evaluation=self.evaluation,
            metric=self.metric,
        )
        for given in (chosen, real):
            calibration_data.check(given.inputs, model.proto, source=given.source)
        progress.note(
            f"calibrating on {len(chosen)} samples from {chosen.source}; {len(real)} from {real.source} judge"
        )
        return Given(calibration=chosen, judged_on=real)

    def _judging(self, model: ModelFile, progress: Progress) -> Samples:
        """All that is real, or seeded noise when nothing is."""
        given = self.evaluation or self.calibration
        if given is None:
            progress.warn("No real inputs given: the result is compared on seeded random values.")
            return made_up.samples_for(model, _MADE_SAMPLES)
        real = samples.named(given, self.folder, split="test", model=model, metric=self.metric)
        calibration_data.check(real.inputs, model.proto, source=real.source)
        return real

"""The paradox guard: is the converted model really faster here than the one that it was made from?"""

from dataclasses import dataclass

from exporters.model_file import ModelFile
from runtimes import ort_profile
from runtimes.ort_profile import Unfused
from toolchain import machine
from toolchain.bench import benchmark, candidates
from toolchain.bench.effort import Effort
from toolchain.bench.judgement import Judgement
from toolchain.bench.record import Setting
from toolchain.inputs.samples import Samples
from toolchain.progress import Progress
from toolchain.stats import Interval

_EFFORT = Effort(min_rounds=8, seconds=0.05, warm_up_s=0.05, precision=0.03, max_time_s=4.0)
_PROFILED_RUNS = 20
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What ``precision`` gains over fp32 on this machine's CPU; above 1 is faster."""

    precision: str
    gain: Interval
    batch: int
    before_ms: float
    after_ms: float
    threads: int
    unfused: tuple[Unfused, ...] = ()

    @property
    def slower(self) -> bool:
        """Whether the whole interval lies on the slow side."""
        return self.gain.high < 1

    def __str__(self) -> str:
        interval = f"{self.gain.estimate:.2f}x ({self.gain.low:.2f} to {self.gain.high:.2f})"
        times = f"{self.before_ms:.3g} ms -> {self.after_ms:.3g} ms"
        return f"speed over fp32 here, batch {self.batch}, {self.threads} threads: {interval}, {times}"

    def advice(self) -> list[str]:
        """What to know about a result that is not faster; nothing about one that is."""
        if self.gain.low > 1:
            return []
        if not self.slower:
            return [f"{self.precision} is not clearly faster than fp32 here: it saves bytes, ship it for its size."]
        lines = [
            f"{self.precision} is SLOWER than fp32 on this machine: ship the fp32 file here, or fp16 for its size."
        ]
        if self.unfused:
            shown = ", ".join(f"{node.name} ({node.op_type}, {node.share:.0%})" for node in self.unfused[:_SHOWN])
            more = f" and {len(self.unfused) - _SHOWN} more" if len(self.unfused) > _SHOWN else ""
            lines.append(f"These nodes did not become int8 kernels: {shown}{more}.")
        return lines


def compare(src: ModelFile, made: ModelFile, samples: Samples, *, precision: str, progress: Progress) -> Speed | None:
    """Time ``src`` and ``made`` in turns, one process each, at batch 1; None when one of them does not run."""
    threads = machine.usable_cores()
    batch = src.fixed_batch or 1
    few = samples.first(batch)
    for file in (src, made):
        file.release()  # the rows need the memory
    rows = benchmark.run(
        [
            candidates.of_file(src, label="fp32"),
            candidates.of_file(made, label=precision),
        ],
        [Setting(provider="cpu", batch=len(few), threads=threads)],
        few,
        judge=lambda row, outputs, baseline: Judgement(),
        effort=_EFFORT,
        progress=progress,
    ).rows
    before, after = rows
    gain, before_ms, after_ms = after.speedup, before.latency_ms(50), after.latency_ms(50)
    if gain is None or before_ms is None or after_ms is None:
        return None
    unfused: tuple[Unfused, ...] = ()
    if gain.high < 1 and precision == "int8-static":
        nodes = ort_profile.time_shares(made.path, few.inputs, threads=threads, runs=_PROFILED_RUNS)
        unfused = tuple(ort_profile.unfused(nodes))
    return Speed(
        precision=precision,
        gain=gain,
        batch=len(few),
        before_ms=before_ms,
        after_ms=after_ms,
        threads=threads,
        unfused=unfused,
    )

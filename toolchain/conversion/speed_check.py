"""The paradox guard: is the converted model really faster here than the one that it was made from?"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporters.model_file import ModelFile
from runtimes import ort_profile
from runtimes.ort_profile import Unfused
from toolchain import machine
from toolchain.bench import benchmark, candidates
from toolchain.bench.benchmark import Extras
from toolchain.bench.cautions import Given
from toolchain.bench.effort import Effort
from toolchain.bench.judgement import Judgement
from toolchain.bench.record import Setting
from toolchain.inputs.samples import Samples
from toolchain.progress import Progress
from toolchain.stats import Interval

_EFFORT = Effort(min_rounds=12, seconds=0.05, warm_up_s=0.05, precision=0.03, max_time_s=6.0)
_PROFILED_RUNS = 20
_SHOWN = 5
_WIDEST = 0.25
"""Of half the interval over the estimate: 17.5x (12.3 to 25.1) was measured beside other programs where a quiet bench
found 2.5x, as one busy phase lay on the turns of one row."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What ``precision`` gains over fp32 on this machine's CPU; above 1 is faster.

    ``shapes`` are those of the inputs that were run, sizes those of all files of a model, ``cautions`` what the bench
    says against the figures. It ``tells`` nothing where rounds disagree by a factor: of a machine that others use.
    """

    precision: str
    gain: Interval
    batch: int
    before_ms: float
    after_ms: float
    threads: int
    unfused: tuple[Unfused, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    before_bytes: int = 0
    after_bytes: int = 0
    cautions: tuple[str, ...] = ()

    @property
    def slower(self) -> bool:
        """Whether the whole interval lies on the slow side."""
        return self.gain.high < 1

    @property
    def tells(self) -> bool:
        """Whether the interval is narrow enough to name a figure."""
        return self.gain.relative_width <= _WIDEST and self.gain.low > 0

    def __str__(self) -> str:
        interval = f"{self.gain.estimate:.2f}x ({self.gain.low:.2f} to {self.gain.high:.2f})"
        times = f"{self.before_ms:.3g} ms -> {self.after_ms:.3g} ms"
        shapes = ", ".join(f"{name} {list(shape)}" for name, shape in self.shapes.items())
        where = f"speed over fp32 here, batch {self.batch}, {self.threads} threads{shapes and ', ' + shapes}"
        if not self.tells:
            return f"{where}: cannot be told, rounds differ too much ({self.gain.low:.2f}x to {self.gain.high:.2f}x)"
        return f"{where}: {interval}, {times}"

    def advice(self) -> list[str]:
        """What speaks against the figures, and what to know about a result that is not faster."""
        lines = list(self.cautions)
        if not self.tells:
            return [*lines, "Time both with `nnx bench` on a quiet machine."]
        if self.gain.low > 1:
            return lines
        smaller = self.after_bytes < self.before_bytes or not self.before_bytes
        if not self.slower:
            what = f"{self.precision} is not clearly faster than fp32 here"
            if smaller:
                return [*lines, f"{what}: it saves bytes, ship it for its size."]
            return [*lines, f"{what}, and its file is not smaller ({_grown(self)}): ship the fp32 file."]
        lines.append(
            f"{self.precision} is SLOWER than fp32 on this machine: ship the fp32 file here, or fp16 for its size."
        )
        if not smaller:
            lines.append(f"Its file is not smaller either ({_grown(self)}).")
        if self.unfused:
            shown = ", ".join(f"{node.name} ({node.op_type}, {node.share:.0%})" for node in self.unfused[:_SHOWN])
            more = f" and {len(self.unfused) - _SHOWN} more" if len(self.unfused) > _SHOWN else ""
            lines.append(f"These nodes did not become int8 kernels: {shown}{more}.")
        return lines


def _grown(speed: Speed) -> str:
    return f"{speed.before_bytes:,} -> {speed.after_bytes:,} bytes"


def compare(src: ModelFile, made: ModelFile, samples: Samples, *, precision: str, progress: Progress) -> Speed | None:
    """Time ``src`` and ``made`` in turns, one process each, at batch 1; None when one of them does not run."""
    threads = machine.usable_cores()
    batch = src.fixed_batch or 1
    few = samples.first(batch)
    call = few.call(len(few))
    for file in (src, made):
        file.release()  # the rows need the memory
    measured = benchmark.run(
        [
            candidates.of_file(src, label="fp32"),
            candidates.of_file(made, label=precision),
        ],
        [Setting(provider="cpu", batch=len(few), threads=threads)],
        few,
        judge=lambda row, outputs, baseline: Judgement(),
        effort=_EFFORT,
        extras=Extras(given=Given(cpus=True, threads=True, max_time=True, precision=True, noise_floor=True)),
        progress=progress,
    )
    before, after = measured.rows
    gain, before_ms, after_ms = after.speedup, before.latency_ms(50), after.latency_ms(50)
    if gain is None or before_ms is None or after_ms is None:
        return None
    unfused: tuple[Unfused, ...] = ()
    if gain.high < 1 and precision == "int8-static":
        nodes = ort_profile.time_shares(made.path, call, threads=threads, runs=_PROFILED_RUNS)
        unfused = tuple(ort_profile.unfused(nodes))
    return Speed(
        precision=precision,
        gain=gain,
        batch=len(few),
        before_ms=before_ms,
        after_ms=after_ms,
        threads=threads,
        unfused=unfused,
        shapes={name: array.shape for name, array in call.items()},
        before_bytes=src.size_bytes,
        after_bytes=made.size_bytes,
        cautions=tuple(line for line in measured.warnings if " --" not in line),  # those are options of the bench
    )

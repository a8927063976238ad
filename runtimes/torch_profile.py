"""Where the time of a PyTorch call goes, operator by operator, eager or compiled."""

import contextlib
import os
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from runtimes.node_time import PYTHON, WARM_UP_RUNS, NodeTime, middle_mean, require_runs, with_shares

_RUN = "nnx_run"
_OPERATOR = re.compile(r"::|_cpp_fused_|^triton_")


def time_shares(
    call: Callable[[], object], *, runs: int, device: str = "cpu", compiled: bool = False
) -> list[NodeTime]:
    """Call ``runs`` times under PyTorch's profiler; each operator's own time in a run, in the order of their first.

    An operator that runs several times is one entry, with its times added up; its name is its ``op_type`` too. A fused
    kernel of torch.compile is named as its code (``graph_0_cpp_fused_relu_0``). On ``cuda`` the times are those of the
    kernels on the device. The profiler adds about a microsecond an operator, which counts as
    :data:`runtimes.node_time.PYTHON`. Raises ValueError for less than one run.

    With ``compiled``, the module is compiled once more, with kernels that tell their times, and forgotten afterwards:
    the next call compiles again.
    """
    require_runs(runs)
    # Kineto writes a line to stderr whenever it starts and stops; 99 is above all of its levels
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.startswith("cuda") else [])]
    with _kernels_that_tell() if compiled else contextlib.nullcontext():
        for _ in range(WARM_UP_RUNS):
            call()
        with profile(activities=activities, acc_events=True) as profiler:
            for _ in range(runs):
                with record_function(_RUN):
                    call()
    times = _by_operator(profiler.events() or (), device)
    return with_shares(
        [
            NodeTime(
                name=name,
                op_type=name,
                provider=device,
                precision="",
                mean_us=middle_mean([in_run.get(run, 0.0) for run in range(runs)]),
                share=0.0,
            )
            for name, in_run in times.items()
        ]
    )


@contextlib.contextmanager
def _kernels_that_tell() -> Iterator[None]:
    """Compile anew inside; a kernel of torch.compile on the CPU is no event of its own unless it was compiled so."""
    torch._dynamo.reset()
    try:
        with torch._inductor.config.patch({"cpp.enable_kernel_profile": True}):
            yield
    finally:
        torch._dynamo.reset()


def _by_operator(events: Any, device: str) -> dict[str, dict[int, float]]:
    """Operator -> number of the run -> its own microseconds in it."""
    starts = sorted(event.time_range.start for event in events if event.name == _RUN and _on(event, "CPU"))
    found: dict[str, dict[int, float]] = {}
    for event in sorted(events, key=lambda event: event.time_range.start):
        if (run := bisect_right(starts, event.time_range.start) - 1) < 0 or not _on(event, "CPU"):
            continue
        name = event.name if _OPERATOR.search(event.name) else PYTHON
        time_us = event.self_cpu_time_total if device == "cpu" else event.self_device_time_total
        in_run = found.setdefault(name, defaultdict(float))
        in_run[run] += time_us
    return {name: in_run for name, in_run in found.items() if any(in_run.values())}


def _on(event: Any, kind: str) -> bool:
    return bool(event.device_type.name == kind)

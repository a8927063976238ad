"""How long processes wait for a BatchNorm's message when all have worked equally long: over gloo and side by side.

    python -m torch.distributed.run --nproc-per-node 2 -m benchmarks.small_messages

The first process prints one line of JSON, microseconds each.
"""

import json
import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from toolchain import stats
from toolchain.training import side_by_side

_VALUES, _WORK_S, _TIMES, _TURNS = 129, 0.003, 50, 8
_TIMEOUT_S = 60.0


def main() -> None:
    dist.init_process_group("gloo")
    own = torch.zeros(_VALUES)
    every = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    ways: dict[str, Callable[[], object]] = {
        "gloo": lambda: dist.all_gather(every, own),
        "side by side": lambda: side_by_side.gathered(own),
    }
    took: dict[str, list[float]] = {way: [] for way in ways}
    with side_by_side.connected(timeout_s=_TIMEOUT_S):
        for _ in range(_TURNS):
            for way, send in ways.items():
                took[way] += [_waited(send) for _ in range(_TIMES)]
    if dist.get_rank() == 0:
        print(
            json.dumps({way: {f"p{q}_us": stats.percentile(each, q) for q in (50, 90)} for way, each in took.items()})
        )
    dist.destroy_process_group()


def _waited(send: Callable[[], object]) -> float:
    end = time.perf_counter() + _WORK_S
    while time.perf_counter() < end:
        pass
    began = time.perf_counter()
    send()
    return (time.perf_counter() - began) * 1e6


if __name__ == "__main__":
    main()

"""The depthwise net's search in one process with one thread beside one on a Ray cluster of two workers, in turns.

    make ray-search DATA=folder-of-cifar10

Min/max ranges and no step that mends the net, as in docs/benchmarks.md. The trained net from artifacts/depthwise
(`make depthwise`) on the real test images; without it random weights on noise, which show whether it works. Each search
is a process of its own, which also digests the ranges that it calibrated. Ray's start is told apart: a cluster stands
already. Leaves ray_search.json and .md in artifacts/benchmarks; fails where the plans or the ranges differ.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import OUT, data_option, keep
from exporters import processors
from exporters.int8.static import StaticInt8, StaticOptions
from exporters.model_file import ModelFile
from toolchain.accuracy.gate import Requirement
from toolchain.bench.report import markdown_table
from toolchain.conversion import fitting, precisions
from toolchain.conversion.given import Data
from toolchain.conversion.goal import Goal
from toolchain.conversion.precisions import Int8Static
from toolchain.conversion.sharded import fold_by
from toolchain.inputs import samples
from toolchain.processes import ray_cluster, workers
from toolchain.progress import Progress
from toolchain.stats import ratio_of_medians

BAR = 0.65
_ROUNDS, _QUICK_ROUNDS, _WORKERS = 7, 2, 2
_CALIBRATION = 256
_OPTIONS = StaticOptions(method="minmax", skip=frozenset({"equalization", "bias-correction"}))


@dataclass(frozen=True, kw_only=True)
class Searched:
    """One search: its seconds, those of Ray's start, the plan, and a digest of the ranges."""

    seconds: float
    start_seconds: float
    exclude: tuple[str, ...]
    methods: dict[str, str]
    trials: int
    ranges_sha256: str


class _Timed(Progress):
    """Says on stderr what was done, and when."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def note(self, text: str) -> None:
        print(f"  {time.perf_counter() - self._began:5.1f} s: {text}", file=sys.stderr)


def searched(folder: Path, *, on_ray: bool) -> Searched:
    """Search in this process, with one thread, or on a Ray cluster of two workers."""
    began = time.perf_counter()
    ahead = "toolchain.conversion.trial"
    joined = ray_cluster.joined(ray_cluster.AUTO, cores=_WORKERS, ahead=ahead) if on_ray else workers.here()
    with processors.limited_to(1), joined as group:
        started = time.perf_counter()
        model = ModelFile(folder / "model.onnx")
        given = Data(calibration=str(folder / "calibration.npz"), evaluation=str(folder / "tests.npz"))
        int8 = precisions.format_for()
        made = fitting.convert(
            model, folder / "made.onnx", Int8Static(int8=int8, options=_OPTIONS, use_cache=False),
            given=given.source(), goal=_goal(folder), workers=group, progress=_Timed(),
        )  # fmt: skip
        ended = time.perf_counter()
        chosen = samples.named(str(folder / "calibration.npz"), None, split="train", model=model)
        ready = StaticInt8(model, samples=chosen.inputs, int8=int8, options=_OPTIONS, fold=fold_by(group))
        assert made.plan is not None
        return Searched(
            seconds=ended - started, start_seconds=started - began, exclude=made.plan.exclude,
            methods=dict(made.plan.methods), trials=made.plan.evaluations, ranges_sha256=_digest(ready),
        )  # fmt: skip


def _goal(folder: Path) -> Goal:
    asked = json.loads((folder / "goal.json").read_text(encoding="utf-8"))
    return Goal(requirement=Requirement(**asked["requirement"]), budget_s=3600.0, trials=asked["trials"])


def _digest(ready: StaticInt8) -> str:
    """Of every bit of what calibration saw, and of the ranges that follow."""
    state = hashlib.sha256()
    for name, seen in sorted(ready.statistics.seen.items()):
        state.update(f"{name} {seen.exponent} {seen.lowest.hex()} {seen.highest.hex()}".encode())
        state.update(seen.counts.tobytes())
    for name, found in sorted(ready.statistics.ranges().items()):
        state.update(f"{name} {found.low.hex()} {found.high.hex()}".encode())
    return state.hexdigest()


def prepare(folder: Path, data: Path | None, artifacts: Path, *, quick: bool) -> str:
    """Write what is searched on; return what it is."""
    import torch

    from benchmarks import depthwise
    from benchmarks.int8_accuracy import trained_task
    from exporters import torch_onnx

    weights = artifacts / "depthwise" / "checkpoint.pt"
    if weights.is_file() and data is not None:
        task = trained_task("depthwise", weights, data, folder, (_CALIBRATION, 3000 if quick else None))
        task.model.rename(folder / "model.onnx")
        assert task.labels is not None
        arrays: dict[str, Any] = {**task.tests, "labels": task.labels}
        np.savez(folder / "tests.npz", **arrays)
        arrays = {**task.calibration}
        np.savez(folder / "calibration.npz", **arrays)
        asked: dict[str, Any] = {"requirement": {"max_drop": 0.02 if quick else 0.01}, "trials": None}
        what = f"the trained net, {len(task.labels):,} images"
    else:
        print(f"Random weights on noise: {weights} (`make depthwise`) and --data are not both there.", file=sys.stderr)
        torch.manual_seed(0)
        random = np.random.default_rng(0)
        example = {"image": torch.zeros(2, 3, 32, 32)}
        torch_onnx.export(
            depthwise.DepthwiseNet().eval(), folder / "model.onnx", example_inputs=example, output_names=["scores"]
        )
        for name, count in (("calibration", _CALIBRATION), ("tests", 500 if quick else 4000)):
            np.savez(folder / f"{name}.npz", image=random.normal(size=(count, 3, 32, 32)).astype(np.float32))
        asked = {"requirement": {"min_sqnr_db": 28.0}, "trials": 20 if quick else None}
        what = "random weights on noise"
    (folder / "goal.json").write_text(json.dumps(asked), encoding="utf-8")
    return what


def _in_a_process(folder: Path, *, on_ray: bool) -> Searched:
    command = [sys.executable, "-m", "benchmarks.ray_search", "--one", "ray" if on_ray else "here", str(folder)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(ended.stdout)
    return Searched(**found | {"exclude": tuple(found["exclude"])})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_option(parser)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="where the trained net lies")
    parser.add_argument("--rounds", type=int, help=f"turns of each (default {_ROUNDS})")
    parser.add_argument("--quick", action="store_true", help="few images and trials: does it work?")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--one", nargs=2, metavar=("WHERE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        where, folder = options.one
        if where == "here":
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(json.dumps(asdict(searched(Path(folder), on_ray=where == "ray"))))
        return 0
    found: dict[bool, list[Searched]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as name:
        what = prepare(Path(name), options.data, options.artifacts, quick=options.quick)
        for turn in range(options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)):
            for on_ray in (False, True) if turn % 2 else (True, False):
                found[on_ray].append(_in_a_process(Path(name), on_ray=on_ray))
                print(f"{'Ray' if on_ray else 'here'}: {found[on_ray][-1].seconds:.1f} s", file=sys.stderr)
    return _told(what, found, options.out)


def _told(what: str, found: dict[bool, list[Searched]], out: Path) -> int:
    here, ray = found[False], found[True]
    ratio = ratio_of_medians([[each.seconds] for each in ray], [[each.seconds] for each in here])
    same_plan = len({(each.exclude, *sorted(each.methods.items()), each.trials) for each in (*here, *ray)}) == 1
    same_ranges = len({each.ranges_sha256 for each in (*here, *ray)}) == 1
    middle = {on_ray: float(np.median([each.seconds for each in runs])) for on_ray, runs in found.items()}
    start = float(np.median([each.start_seconds for each in ray]))
    table = markdown_table(
        [what, "search, s", "start, s", "trials", "in float"],
        [
            ["one process, one thread", f"{middle[False]:.1f}", "–", str(here[0].trials), str(len(here[0].exclude))],
            ["Ray, 2 workers", f"{middle[True]:.1f}", f"{start:.1f}", str(ray[0].trials), str(len(ray[0].exclude))],
        ],
    )
    plan, ranges = "the same" if same_plan else "ANOTHER", "equal" if same_ranges else "NOT equal"
    table += (
        f"\n\nRay over one process: {ratio.estimate:.2f} ({ratio.low:.2f}–{ratio.high:.2f}), {BAR} is wanted; "
        f"the plan is {plan}, the ranges are {ranges} to the bit.\n"
    )
    facts = {"what": what, "ratio": asdict(ratio), "same_plan": same_plan, "same_ranges": same_ranges}
    runs = {"ray" if on_ray else "here": [asdict(each) for each in each_run] for on_ray, each_run in found.items()}
    keep(out / "ray_search.json", {**facts, "runs": runs}, table)
    print(table)
    return 0 if same_plan and same_ranges else 1


if __name__ == "__main__":
    raise SystemExit(main())

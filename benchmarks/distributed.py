"""`make distributed`: one process beside two and four that train the same recipe together, and what they send.

- the first steps: of so few pictures that an epoch is one step, where rounding has not grown yet;
- the curve: cifar10 in fp32, the loss of every epoch with 1, 2 and 4 processes and --sync-batchnorm, and of one process
  with one thread, which differs from that with two in nothing but the order of sums;
- the speed: epochs of 1 process with two threads and of 2 with one each, taking turns;
- another number of processes in the middle: 2, then 1, then 4;
- the bytes: what crosses the loopback device of a network namespace of its own, a step, beside the arithmetic;
- the wait: how long a message of a BatchNorm takes from process to process, over gloo and side by side.

With the real CIFAR-10 where --data or NNX_TEST_DATA has it, else with digits.
"""

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.results import OUT, keep
from toolchain import stats
from toolchain.bench.report import markdown_table

_PLAIN = ("--amp", "off", "--no-compile", "--sync-batchnorm")
_BYTES_OF_FP32 = 4
_BAR, _STEPS = 1.15, 10
_CURVES = (("1", 1, None), ("2", 2, None), ("4", 4, None), ("1 with one thread", 1, 1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="CIFAR-10 as the recipe takes it; without it the recipe is digits")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two turns of one epoch, to see that it works")
    parser.add_argument("--out", type=Path, default=OUT / "distributed.json")
    options = parser.parse_args()
    recipe = ("digits",) if options.data is None else ("cifar10", "--data", str(options.data.resolve()))
    epochs, turns = (1, 2) if options.quick else (options.epochs, options.turns)
    found: dict[str, Any] = {"recipe": recipe[0], "curves": {}}
    with TemporaryDirectory() as name:
        folder = Path(name)
        if options.data is not None:
            found["steps"] = _first_steps(options.data.resolve(), folder)
        for label, count, threads in _CURVES:
            found["curves"][label] = _curve(recipe, count, threads, epochs, folder)
            _keep(options.out, found)
        for part, measure in (
            ("speed", lambda: _speed(recipe, turns, folder)),
            ("resumed", lambda: _resumed(recipe, folder)),
            ("bytes", lambda: _bytes(folder)),
            ("messages", _messages),
        ):
            found[part] = measure()
            _keep(options.out, found)
    print(f"{_table(found)}\n\nAll of it lies in {options.out}.")
    return 0


def _keep(out: Path, found: dict[str, Any]) -> None:
    """As far as it has come."""
    keep(out, found, _table(found))
    print(f"{datetime.datetime.now():%H:%M:%S}: {', '.join(found)}", file=sys.stderr)


def _train(
    recipe: tuple[str, ...], out: Path, *more: object, before: tuple[str, ...] = (), threads: int | None = None
) -> dict[str, Any]:
    """What training.json says of it."""
    command = [*before, sys.executable, "-m", "toolchain", "train", *recipe, *_PLAIN, "--out", out, *more]
    environment = os.environ if threads is None else os.environ | {"OMP_NUM_THREADS": str(threads)}
    subprocess.run(
        list(map(str, command)), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    told: dict[str, Any] = json.loads((out / "training.json").read_text(encoding="utf-8"))
    return told


def _of(count: int) -> tuple[object, ...]:
    return ("--nproc", count) if count > 1 else ()


def _curve(recipe: tuple[str, ...], count: int, threads: int | None, epochs: int, folder: Path) -> list[list[float]]:
    """Loss and validation score of each epoch."""
    told = _train(recipe, folder / f"curve{count}-{threads}", "--epochs", epochs, *_of(count), threads=threads)
    return [[each["loss"], each["validation_score"]] for each in told["epochs"]]


def _first_steps(data: Path, folder: Path) -> dict[str, list[float]]:
    """The loss of each step."""
    for part, count in (("train", 60), ("test", 2)):  # of each class; 540 are not held back
        for each in (data / part).iterdir():
            (folder / "few" / part / each.name).mkdir(parents=True)
            for picture in sorted(each.iterdir())[:count]:
                (folder / "few" / part / each.name / picture.name).symlink_to(picture)
    recipe = ("cifar10", "--data", str(folder / "few"))
    return {
        label: [loss for loss, _ in _curve(recipe, count, threads, _STEPS, folder)] for label, count, threads in _CURVES
    }


def _speed(recipe: tuple[str, ...], turns: int, folder: Path) -> dict[str, Any]:
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(turns):
        for count in sorted(seconds, reverse=bool(turn % 2)):
            told = _train(recipe, folder / "speed", "--epochs", 1, *_of(count))
            seconds[count].append(told["epochs"][0]["seconds"])
    ratio = stats.ratio_of_medians(*([[each] for each in seconds[count]] for count in (2, 1)))
    return {"seconds": seconds, "ratio": {"value": ratio.estimate, "low": ratio.low, "high": ratio.high}}


def _resumed(recipe: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """An epoch with 2 processes, one with 1, one with 4, under a constant rate, beside three with 1."""
    constant = folder / "constant.py"
    constant.write_text(
        f"from dataclasses import replace\nfrom toolchain.recipes.{recipe[0]} import recipe as given\n"
        "recipe = replace(given, one_cycle=False, lr=given.lr / 10)\n",
        encoding="utf-8",
    )
    own = (f"{constant}:recipe", *recipe[1:])
    changed: dict[str, Any] = {}
    for epochs, count in enumerate((2, 1, 4), 1):
        changed = _train(
            own, folder / "changed", "--epochs", epochs, *_of(count), *(("--resume",) if epochs > 1 else ())
        )
    steady = _train(own, folder / "steady", "--epochs", 3)
    return {
        name: [[each["loss"], each["validation_score"]] for each in told["epochs"]]
        for name, told in (("2, 1, 4", changed), ("1", steady))
    }


def _bytes(folder: Path) -> dict[str, Any]:
    """Of a step of digits with 2 processes: more steps less fewer, so that what is sent at the ends does not count."""
    if shutil.which("unshare") is None or os.geteuid():
        return {"why not": "no network namespace without root"}
    sent = {}
    for epochs in (1, 4):
        count = folder / f"bytes{epochs}"
        script = f'ip link set lo up; "$@" || exit 1; cat /proc/net/dev > {count}'
        _train(
            ("digits",), folder / f"sent{epochs}", "--epochs", epochs, "--nproc", 2,
            before=("unshare", "-n", "sh", "-c", script, "sh"),
        )  # fmt: skip
        line = next(each for each in count.read_text(encoding="ascii").splitlines() if each.strip().startswith("lo:"))
        sent[epochs] = int(line.split()[1])
    from torch.nn.modules.batchnorm import _BatchNorm

    from toolchain.recipes.digits import recipe
    from toolchain.training.options import resolve
    from toolchain.training.order import Order

    steps = 3 * Order(recipe, recipe.data(None).load(), resolve(recipe, device="cpu")).steps_per_epoch()
    model = recipe.model()
    weights = sum(each.numel() for each in model.parameters())
    norms = [each.num_features for each in model.modules() if isinstance(each, _BatchNorm)]
    # 2 processes each send their gradients once, and for each BatchNorm 2C + 1 values forward and 2C backward
    counted = 2 * _BYTES_OF_FP32 * (weights + sum(4 * channels + 1 for channels in norms))
    return {"measured_a_step": (sent[4] - sent[1]) / steps, "counted_a_step": counted, "weights": weights}


def _messages() -> dict[str, dict[str, float]]:
    command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "benchmarks.small_messages"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run([sys.executable, *command], check=True, stdout=subprocess.PIPE, text=True, env=environment)
    told: dict[str, dict[str, float]] = json.loads(ended.stdout.splitlines()[-1])
    return told


def _table(found: dict[str, Any]) -> str:
    """Of the parts that are there."""

    def shown(curve: list[list[float]]) -> list[str]:
        return [f"{loss:.5f}" for loss, _ in curve] + [f"{curve[-1][1]:.2%}"]

    epochs = [f"loss {number}" for number in range(1, len(next(iter(found["curves"].values()))) + 1)]
    curves = [[count, *shown(curve)] for count, curve in found["curves"].items()]
    lines = [markdown_table(["processes", *epochs, "validation"], curves)]
    if "steps" in found:
        apart = [
            [
                name,
                *(f"{abs(loss - first) / first:.0e}" for loss, first in zip(losses, found["steps"]["1"], strict=True)),
            ]
            for name, losses in found["steps"].items()
            if name != "1"
        ]
        numbers = [str(number) for number in range(1, _STEPS + 1)]
        lines.append(markdown_table(["loss of a step beside 1 process", *numbers], apart))
    if "speed" in found:
        middle = {count: stats.percentile(seconds, 50) for count, seconds in found["speed"]["seconds"].items()}
        ratio = found["speed"]["ratio"]
        lines.append(
            f"An epoch: {middle[1]:.2f} s with 1 process of two threads, {middle[2]:.2f} s with 2 of one; "
            f"ratio {ratio['value']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f}), {_BAR} is wanted."
        )
    if "resumed" in found:
        resumed = [[name, *shown(curve)] for name, curve in found["resumed"].items()]
        lines.append(markdown_table(["processes of each epoch", "loss 1", "loss 2", "loss 3", "validation"], resumed))
    if "measured_a_step" in (sent := found.get("bytes", {})):
        lines.append(
            f"digits, 2 processes: {sent['measured_a_step']:,.0f} bytes a step crossed the loopback device, "
            f"{sent['counted_a_step']:,} are counted of {sent['weights']:,} weights and the BatchNorms."
        )
    if "messages" in found:
        times = [
            [way, *(f"{took[each]:.0f}" for each in ("p50_us", "p90_us"))] for way, took in found["messages"].items()
        ]
        lines.append(markdown_table(["a message of 516 bytes both ways after 3 ms of work, µs", "p50", "p90"], times))
    return "\n\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())

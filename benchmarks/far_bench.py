"""`make far-bench`: is a latency that `nnx bench --host` tells the machine's own, whatever lies in between?

One model on this machine, measured here, over a real sshd on loopback, and over one behind a network that takes 150 ms
each way and loses a twentieth of the packets (as root; else that row is left out). They take turns in a new random
order each time; a turn is a whole bench, in a process of its own.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks import loopback_sshd, slow_network
from benchmarks.results import OUT, keep
from exporters.model_file import ModelFile
from toolchain import stats
from toolchain.bench import target_rows
from toolchain.bench.effort import Effort
from toolchain.bench.record import Row, Setting
from toolchain.bench.report import markdown_table
from toolchain.hosts import host
from toolchain.hosts.address import Address
from toolchain.hosts.host import Host

_WIDTH, _LAYERS = 512, 6
_DELAY_S, _LOSS = 0.15, 0.05
_HERE, _LOOPBACK, _FAR = "here", "over ssh, on loopback", "over ssh, 300 ms there and back, 5 % lost"
_TURN = Effort(min_rounds=2, min_runs=10, seconds=0.5, max_time_s=1.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=16)
    parser.add_argument("--quick", action="store_true", help="three turns, to see that it works")
    parser.add_argument("--out", type=Path, default=OUT / "far-bench.json")
    options = parser.parse_args()
    with TemporaryDirectory() as name, ExitStack() as stack:
        model, hosts = write(Path(name) / "net.onnx"), {}
        for way, within, address in ((_LOOPBACK, False, "127.0.0.1"), (_FAR, True, slow_network.FAR)):
            folder = Path(name, "far" if within else "near")
            folder.mkdir()
            try:
                hosts[way] = stack.enter_context(reached(folder, address, slow=within))
            except (slow_network.NoNetwork, loopback_sshd.NoServer) as why:
                print(f"Without '{way}': {why}")
        rows, seconds = in_turns(model, hosts, 3 if options.quick else options.turns)
    lines = [_line(way, rows[way], rows[_HERE], seconds[way]) for way in rows]
    table = markdown_table(["measured", "p50, ms", "p99, ms", "over here (95 %)", "s a bench"], lines)
    runs = {way: [row.rounds_ms for row in each] for way, each in rows.items()}
    keep(options.out, {"runs_ms": runs, "seconds": seconds}, table)
    print(f"{table}\n\nAll of it lies in {options.out}.")
    return 0


def write(path: Path) -> ModelFile:
    """A perceptron of a few hundred microseconds."""
    draw, names = np.random.default_rng(0), [f"h{number}" for number in range(_LAYERS + 1)]
    weights = [
        numpy_helper.from_array((draw.normal(size=(_WIDTH, _WIDTH)) / _WIDTH**0.5).astype(np.float32), f"w{number}")
        for number in range(_LAYERS)
    ]
    nodes = [helper.make_node("MatMul", [names[layer], f"w{layer}"], [names[layer + 1]]) for layer in range(_LAYERS)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", _WIDTH]) for name in (names[0], names[-1])]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return ModelFile(path)


@contextmanager
def reached(folder: Path, address: str, *, slow: bool) -> Iterator[Host]:
    """This machine by a road of its own."""
    with ExitStack() as stack:
        within = stack.enter_context(slow_network.between(delay_s=_DELAY_S, loss=_LOSS)) if slow else ()
        programs = stack.enter_context(loopback_sshd.serving(folder, address=address, within=within))
        road = Address(f"ssh://{address}", "", (str(programs / "ssh"), "-T", "--", "device"))
        hosts = stack.enter_context(host.opened([road], {road.host: sys.executable}))
        yield hosts[road.host]


def in_turns(
    model: ModelFile, hosts: Mapping[str, Host], turns: int
) -> tuple[dict[str, list[Row]], dict[str, list[float]]]:
    """The row of each turn by its way, and how long its bench took in all."""
    ways = {_HERE: None, **hosts}
    rows: dict[str, list[Row]] = {way: [] for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    order = random.Random(0)
    for _ in range(turns):
        for way in order.sample(list(ways), len(ways)):
            there, began = ways[way], time.monotonic()
            setting = Setting(provider="cpu", batch=1, threads=1, host=None if there is None else there.address)
            others = {} if there is None else {there.address: there}
            (row,) = target_rows.bench([model], [setting], effort=_TURN, hosts=others).rows
            assert row.rounds_ms, row.reason
            rows[way].append(row)
            seconds[way].append(time.monotonic() - began)
    return rows, seconds


def _line(way: str, rows: list[Row], here: list[Row], seconds: list[float]) -> list[str]:
    turns, beside = ([[run for block in row.rounds_ms for run in block] for row in each] for each in (rows, here))
    ratio = "" if way == _HERE else stats.shown_ratio(stats.ratio_of_medians(turns, beside))
    p50, p99 = (stats.shown(stats.percentile_interval(turns, q)) for q in (50, 99))
    return [way, p50, p99, ratio, f"{np.median(seconds):.1f}"]


if __name__ == "__main__":
    raise SystemExit(main())

"""`make runner-cost`: packages' runners beside ONNX Runtime alone, to the first answer and from call to call.

Both take turns: a process of each until its first answer is there, then one of each that lives and runs the same input.
Of each package also its size, the seconds of packing it and of its self-test.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import OUT, keep
from benchmarks.runner_cost import languages
from benchmarks.runner_cost.languages import Language
from toolchain import stats
from toolchain.bench.report import markdown_table
from toolchain.shipping import contents, golden_values, packing, self_test
from toolchain.shipping.packing import Packed, Title
from toolchain.shipping.targets import TARGETS

_MOST = 1.03


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifacts", nargs="+", type=Path, metavar="FOLDER", help="what nnx run left")
    parser.add_argument("--data", type=Path, default=os.environ.get("NNX_TEST_DATA"), help="of recipes that want one")
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one turn from call to call")
    parser.add_argument("--quick", action="store_true", help="two short turns, to see that it works")
    parser.add_argument("--out", type=Path, default=OUT / "runner-cost.json")
    options = parser.parse_args()
    turns, seconds = (2, 0.05) if options.quick else (options.turns, options.seconds)
    packages: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for artifacts in options.artifacts:
            packed, facts = _packed(artifacts, options.data, Path(folder))
            packages.append(facts)
            for language in languages.of(packed.path, Path(folder)):
                rows.append(_row(packed, language, Path(folder), turns, seconds))
                table = f"{_package_table(packages)}\n\n{_table(rows)}"
                keep(options.out, {"packages": packages, "rows": rows}, table)
                print(_table(rows[-1:]), flush=True)
    print(f"\n{table}\n\nAll of it lies in {options.out}.")
    return int(any(row[what]["low"] > _MOST for row in rows for what in ("first_ratio", "call_ratio")))


def _packed(artifacts: Path, data: Path | None, folder: Path) -> tuple[Packed, dict[str, Any]]:
    """The package of an artifacts folder, and what it took."""
    started = time.perf_counter()
    held = contents.of_folder(artifacts, data_folder=_data_of(artifacts.name, data))
    targets = [TARGETS[name] for name in ("node", "web", "cpp")]
    packed = packing.pack(held, folder / f"{artifacts.name}.ortpackage", Title(name=artifacts.name), targets=targets)
    packing_s, started = time.perf_counter() - started, time.perf_counter()
    self_test.run(packed.path)
    facts = {"package": artifacts.name, "size_bytes": packed.size_bytes, "packing_s": packing_s}
    return packed, {**facts, "variants": len(held.models), "self_test_s": time.perf_counter() - started}


def _data_of(recipe: str, data: Path | None) -> Path | None:
    """Where a folder holds the data of several recipes, its own has its name."""
    return data / recipe if data and (data / recipe).is_dir() else data


def _row(packed: Packed, language: Language, place: Path, turns: int, seconds: float) -> dict[str, Any]:
    """One language: its runner beside what one would write without it, on the variant that comes first."""
    variant = packed.package.variants[0]
    array = next(iter(golden_values.read(packed.path, variant.name).calls[0].values()))
    np.save(place / "x.npy", array)
    model = [str(packed.path / variant.model), str(place / "x.npy"), ",".join(map(str, array.shape))]
    ours, bare = [*language.runner, str(place / "x.npy"), "--threads", "1"], [*language.bare, *model]
    first: dict[str, list[tuple[float, float]]] = {"ours": [], "bare": []}
    for turn in range(turns + 1):  # the first fills the disk's cache
        for name in sorted(first, reverse=bool(turn % 2)):
            took = _first_answer(ours if name == "ours" else bare)
            first[name] += [took] if turn else []
    calls = _calls(language.runner, bare, variant.name, str(place / "x.npy"), turns, seconds)
    pairs = {
        "first": [[[each[0]] for each in first[name]] for name in ("ours", "bare")],
        "processor": [[[each[1]] for each in first[name]] for name in ("ours", "bare")],
        "call": [calls["ours"], calls["bare"]],
    }
    facts: dict[str, Any] = {"package": packed.package.name, "variant": variant.name, "language": language.name}
    for what, (one, other) in pairs.items():
        ratio = stats.ratio_of_medians(one, other)
        facts[f"{what}_ratio"] = {"value": ratio.estimate, "low": ratio.low, "high": ratio.high}
        facts |= {f"{what}_ms": _median(one), f"{what}_bare_ms": _median(other)}
    return facts


def _first_answer(command: Sequence[str]) -> tuple[float, float]:
    """Milliseconds until a line is there, and of the processor until the process has ended."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    line = process.stdout.readline()
    took = time.perf_counter() - started
    process.stdout.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or not line:
        raise SystemExit(f"exit code {process.returncode}: {' '.join(command)}")
    return took * 1e3, (used.ru_utime + used.ru_stime) * 1e3


def _calls(
    runner: Sequence[str], bare: Sequence[str], variant: str, file: str, turns: int, seconds: float
) -> dict[str, list[list[float]]]:
    """Each turn's milliseconds from call to call."""
    found: dict[str, list[list[float]]] = {"ours": [], "bare": []}
    with (
        subprocess.Popen(runner, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as ours,
        subprocess.Popen(bare, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as alone,
    ):
        assert alone.stdout is not None
        alone.stdout.readline()
        _asked(ours, {"op": "open", "variant": variant, "threads": 1, "batch": 1})
        name = next(iter(_asked(ours, {"op": "start"})["result"]["shapes"]))
        _asked(ours, {"op": "open", "variant": variant, "threads": 1, "batch": 1, "inputs": {name: file}})
        _asked(ours, {"op": "start"})
        turn = {"op": "turn", "min_runs": 1, "most_kept": 10**9, "warm_up_s": 0.0, "seconds": seconds}
        for number in range(turns + 1):  # the first warms up
            for one in sorted(found, reverse=bool(number % 2)):
                runs = _asked(ours, turn)["result"]["runs_ms"] if one == "ours" else _asked(alone, seconds)
                found[one] += [runs] if number else []
    return found


def _asked(process: "subprocess.Popen[str]", request: Any) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def _median(rounds: list[list[float]]) -> float:
    return stats.percentile([stats.percentile(each, 50) for each in rounds], 50)


def _package_table(packages: list[dict[str, Any]]) -> str:
    lines = [
        [
            each["package"], str(each["variants"]), f"{each['size_bytes'] / 1e6:.1f}",
            f"{each['packing_s']:.1f}", f"{each['self_test_s']:.1f}",
        ]
        for each in packages
    ]  # fmt: skip
    return markdown_table(["package", "variants", "MB", "packed in s", "self-test s"], lines)


def _table(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        line = [f"{row['package']} {row['variant']}", row["language"]]
        for what, digits in (("first", 0), ("call", 4)):
            line += [f"{row[f'{what}_ms']:.{digits}f}", f"{row[f'{what}_bare_ms']:.{digits}f}", _shown(row, what)]
        lines.append([*line, _shown(row, "processor")])
    head = [
        "package", "language", "to the first answer, ms", "bare", "ratio", "a call, ms", "bare", "ratio",
        "processor time to the first answer, ratio",
    ]  # fmt: skip
    return markdown_table(head, lines)


def _shown(row: dict[str, Any], what: str) -> str:
    each = row[f"{what}_ratio"]
    return f"{each['value']:.3f} ({each['low']:.3f}–{each['high']:.3f})"


if __name__ == "__main__":
    raise SystemExit(main())

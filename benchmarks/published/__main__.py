"""`make published`: fetches the packages, tries every tool on every model file, and leaves figures and a table."""

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.hard import runs
from benchmarks.hard.runs import Place
from benchmarks.published import judging, packages, report, samples, tools
from benchmarks.published.judging import Nearness
from benchmarks.published.packages import Published
from benchmarks.published.tools import Tried
from benchmarks.results import OUT
from exporters.errors import ExporterError
from exporters.model_file import ModelFile
from toolchain.errors import NnxError

MODES = [*tools.LOOKS, *tools.NNX]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the packages' model files are kept between runs, half a GB")
    parser.add_argument("--only", help="models with this in their name")
    parser.add_argument("--mode", action="append", choices=MODES, help="only this one; repeatable")
    parser.add_argument("--seconds", type=float, default=300.0, help="the longest that one command may take")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT / "published.json")
    parser.add_argument(
        "--resume", action="store_true", help="go on with what --out holds: what is there is not done again"
    )
    options = parser.parse_args()
    for line in packages.fetch(options.folder):
        print(line)
    models = [each for each in packages.found(options.folder) if not options.only or options.only in each.name]
    modes = options.mode or MODES
    rows = [row for row in report.kept(options.out) if row["tool"] and row["code"] != 124] if options.resume else []
    done_before = {(row["model"], row["mode"]) for row in rows if row["tool"] == "nnx"}
    missing = {each: [mode for mode in modes if (each.name, mode) not in done_before] for each in models}
    runs.warm()
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("fork")) as lanes:
        waiting = [lanes.submit(_of_model, each, few, options.seconds) for each, few in missing.items() if few]
        for done in as_completed(waiting):
            rows += done.result()
            for row in done.result():
                print(report.line(row), flush=True)
            report.keep(options.out, rows)
    print(f"\n{report.table(rows)}\n\nAll of it lies in {options.out}.")
    return int(any(row["fault"] for row in rows))


def _of_model(published: Published, modes: list[str], seconds: float) -> list[dict[str, Any]]:
    with Place.new() as place:
        try:
            return list(_rows(published, modes, seconds, place))
        except Exception as error:  # noqa: BLE001 - a fault of nnx's, which this is here to find, and the others go on
            common = {"model": published.name, "source_bytes": published.path.stat().st_size, "says": repr(error)}
            return [{**common, "mode": "", "tool": "", "fault": f"in this process: {error!r}"}]


def _rows(published: Published, modes: list[str], seconds: float, place: Place) -> Iterator[dict[str, Any]]:
    """A row for each tool and mode; one alone for a model that cannot be fed."""
    model, folder = ModelFile(published.path), place.here
    size = published.path.stat().st_size
    common = {"model": published.name, "source_bytes": size}
    try:
        common |= {"precision": model.precision, "real": samples.write(model, published.name, folder)}
    except (ExporterError, NnxError) as error:
        yield {**common, "mode": "", "tool": "", "says": str(error), "fault": ""}
        return
    for mode in modes:
        if mode in tools.LOOKS:
            told = tools.look(mode, published.path, place, batch=model.fixed_batch or 1, seconds=seconds)
            yield {**common, **asdict(told), "fault": judging.fault_of_look(told)}
            continue
        theirs, their_near = None, None
        if mode in tools.ONNX_RUNTIME:
            made = folder / f"theirs.{mode}.onnx"
            theirs = tools.others(mode, published.path, made, place, seconds=seconds)
            their_near = _near(theirs, published, made, folder)
            yield {**common, **_facts(theirs, their_near), "fault": ""}
        made = folder / f"{mode}.onnx"
        ours = tools.nnx(mode, published.path, made, place, seconds=seconds)
        near = _near(ours, published, made, folder)
        yield {
            **common,
            **_facts(ours, near),
            "fault": judging.fault(ours, near, theirs, their_near, source_bytes=size),
        }


def _near(tried: Tried, published: Published, made: Path, folder: Path) -> Nearness | None:
    if tried.code:
        return None
    with suppress(FileNotFoundError):
        return judging.nearness(published.path, made, folder / "held_back.npz")
    return Nearness(broken="no file was written")


def _facts(tried: Tried, near: Nearness | None) -> dict[str, Any]:
    return {**asdict(tried), **({} if near is None else {**asdict(near), "right": near.right})}


if __name__ == "__main__":
    raise SystemExit(main())

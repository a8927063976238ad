"""How fast pictures in files are read, and in how much memory: nnx's threads beside torch's DataLoader and webdataset.

python -m benchmarks.loading [--quick]

Made pictures (JPEG, 256 x 256) are decoded and cut to 224 x 224 by the same code on every road, in batches of 64, in a
fresh process each: one epoch in a random order. What webdataset makes is a stream through its shuffle buffer.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from toolchain.datasets import reading, shards
from toolchain.machine import usable_cores
from toolchain.recipe import DataSource, HuggingFaceData, ImageFolder, Pictures, WebDataset

_PICTURES = Pictures(size=(224, 224), crop=0.875)
_BATCH = 64
_CLASSES = 10


def jpeg(number: int) -> bytes:
    """A smooth picture with some grain, of the size and the weight of a photograph's thumbnail."""
    random = np.random.default_rng(number)
    coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).resize((256, 256), Image.Resampling.BICUBIC)
    grain = random.integers(-12, 13, (256, 256, 3))
    file = io.BytesIO()
    Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def write(folder: Path, count: int) -> None:
    """The same pictures in the three forms."""
    import datasets
    import webdataset

    datasets.disable_progress_bars()
    (folder / "shards").mkdir(parents=True)
    pictures, labels = [], []
    with webdataset.ShardWriter(str(folder / "shards" / "train-%06d.tar"), maxcount=500, verbose=0) as sink:
        for number in range(count):
            content, label = jpeg(number), number % _CLASSES
            place = folder / "folders" / "train" / str(label)
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number:06}.jpg").write_bytes(content)
            sink.write({"__key__": f"{number:06}", "jpg": content, "cls": label})
            pictures.append({"bytes": content, "path": None})
            labels.append(label)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    datasets.Dataset.from_dict({"image": pictures, "label": labels}, features).save_to_disk(str(folder / "arrow"))


_SOURCES: dict[str, Callable[[Path], DataSource]] = {
    "folders": lambda folder: ImageFolder(folder / "folders", _PICTURES),
    "shards": lambda folder: WebDataset(folder / "shards", _PICTURES),
    "arrow": lambda folder: HuggingFaceData(folder / "arrow", _PICTURES),
}


def nnx(folder: Path, kind: str, workers: int) -> Iterator[int]:
    """Batches of a training split, stacked, by the reader that training has."""
    reading.WORKERS.set(workers)
    split = _SOURCES[kind](folder).load().train
    assert split.reader is not None
    order = np.random.default_rng(0).permutation(len(split))
    for _, samples in split.reader.ahead(np.array_split(order, max(1, len(order) // _BATCH))):
        yield len(np.stack([pixels for pixels, _ in samples]))


def data_loader(folder: Path, kind: str, workers: int) -> Iterator[int]:
    """The same samples through torch's DataLoader and its processes."""
    from torch.utils.data import DataLoader, Dataset

    split = _SOURCES[kind](folder).load().train
    assert split.reader is not None
    one = split.reader.sample

    class Samples(Dataset[Any]):
        def __len__(self) -> int:
            return len(split)

        def __getitem__(self, row: int) -> Any:
            return one(row)

    for pixels, _ in DataLoader(Samples(), batch_size=_BATCH, shuffle=True, num_workers=workers):
        yield len(pixels)


def stream(folder: Path, kind: str, workers: int) -> Iterator[int]:
    """webdataset's pipeline over the same shards."""
    import webdataset

    files = [str(path) for path in shards.files_of(folder / kind)]
    pipeline = webdataset.WebDataset(files, shardshuffle=len(files), workersplitter=webdataset.split_by_worker)
    pipeline = (
        pipeline.shuffle(1000).to_tuple("jpg").map(lambda each: (_PICTURES.decode(each[0], "it"),)).batched(_BATCH)
    )
    for (pixels,) in webdataset.WebLoader(pipeline, batch_size=None, num_workers=workers):
        yield len(pixels)


_ROADS: dict[str, Callable[[Path, str, int], Iterable[int]]] = {
    "nnx": nnx, "torch DataLoader": data_loader, "webdataset": stream,
}  # fmt: skip


def measured(road: str, kind: str, workers: int, folder: Path) -> dict[str, float]:
    """In this process, of an epoch after its first batch: samples a second, CPU time a sample, the memory."""
    began, seen, before = 0.0, 0, 0.0
    for count in _ROADS[road](folder, kind, workers):
        if began:
            seen += count
        if not began:
            began, before = time.perf_counter(), sum(os.times()[:4])
    seconds, cpu = time.perf_counter() - began, sum(os.times()[:4]) - before
    (own,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return {"samples_per_s": seen / seconds, "cpu_ms": cpu / seen * 1e3, "own_mb": int(own.split()[1]) / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few pictures, to see that it works")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        road, kind, workers, place = chosen.one
        print(json.dumps(measured(road, kind, int(workers), Path(place))))
        return
    rounds, count = (1, 600) if chosen.quick else (3, 4000)
    with tempfile.TemporaryDirectory() as place:
        write(Path(place), count)
        cases = [("nnx", kind, workers) for kind in _SOURCES for workers in sorted({1, usable_cores()})]
        cases += [("torch DataLoader", "shards", workers) for workers in sorted({0, usable_cores()})]
        cases += [("webdataset", "shards", workers) for workers in sorted({0, usable_cores()})]
        found: dict[tuple[str, str, int], list[dict[str, float]]] = {case: [] for case in cases}
        for _ in range(rounds):  # in turns: the machine's other work falls on all alike
            for case in cases:
                command = [sys.executable, "-m", "benchmarks.loading", "--one", *map(str, case), place]
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                ended = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
                found[case].append(json.loads(ended.stdout.splitlines()[-1]))
    print(f"{count:,} JPEGs of 256 x 256, {rounds} rounds: the median of each\n")
    print("| road | form | workers | samples a second | CPU a sample, ms | memory without workers, MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (road, kind, workers), rows in found.items():
        rate, cpu, own = (float(np.median([row[key] for row in rows])) for key in ("samples_per_s", "cpu_ms", "own_mb"))
        print(f"| {road} | {kind} | {workers} | {rate:,.0f} | {cpu:.2f} | {own:,.0f} |")


if __name__ == "__main__":
    main()

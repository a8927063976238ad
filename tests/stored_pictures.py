"""The same small pictures as a folder per class, as tar shards, and as a folder of Hugging Face's ``datasets``."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

CLASSES = ("cat", "dog", "hen")
SIZE = 8
Pixels = npt.NDArray[np.uint8]


def picture(number: int) -> Pixels:
    """``(SIZE, SIZE, 3)``, whose class is easily learned."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 120, (SIZE, SIZE, 3), np.uint8)
    pixels[..., number % len(CLASSES)] += 100
    return pixels


def png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def class_folders(folder: Path, parts: Mapping[str, Iterable[int]]) -> Path:
    """``folder/<part>/<class>/NUMBER.png``; of the part "" without its own folder."""
    for part, numbers in parts.items():
        for number in numbers:
            place = folder / part / CLASSES[number % len(CLASSES)]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number:05}.png").write_bytes(png(picture(number)))
    return folder


def shard(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> Path:
    """A tar file of members ``KEY.EXTENSION``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for key, members in samples:
            for extension, content in members.items():
                entry = tarfile.TarInfo(f"{key}.{extension}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return path


def sample(number: int) -> tuple[str, dict[str, bytes]]:
    return f"{number:05}", {"png": png(picture(number)), "cls": b"%d" % (number % len(CLASSES))}


def shards(folder: Path, parts: Mapping[str, Iterable[int]], *, each: int = 20) -> Path:
    """``folder/<part>-000000.tar`` and so on."""
    for part, given in parts.items():
        numbers = list(given)
        for place, start in enumerate(range(0, len(numbers), each)):
            shard(folder / f"{part}-{place:06}.tar", map(sample, numbers[start : start + each]))
    return folder


def arrow(folder: Path, parts: Mapping[str, Iterable[int]]) -> Path:
    """What save_to_disk leaves."""
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})

    def rows(numbers: Iterable[int]) -> dict[str, list[Any]]:
        pictures = [{"bytes": png(picture(number)), "path": None} for number in numbers]
        return {"image": pictures, "label": [number % len(CLASSES) for number in numbers]}

    datasets.disable_progress_bars()
    made = {part: datasets.Dataset.from_dict(rows(list(numbers)), features) for part, numbers in parts.items()}
    datasets.DatasetDict(made).save_to_disk(str(folder))
    return folder

"""A training on pictures in files comes to what one on the same samples in memory does, in one process and in two."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests import stored_pictures
from tests.contract.training.processes import together
from tests.contract.training.tiny_recipes import Notes, options, recipe
from toolchain.datasets import reading
from toolchain.datasets.dataset import Dataset, Split
from toolchain.errors import BadUsage
from toolchain.recipe import HuggingFaceData, ImageFolder, Pictures, WebDataset
from toolchain.training import checkpoint, loop
from toolchain.training.record import History
from toolchain.training.world import ALONE, World

PICTURES = Pictures(size=(6, 6))
KINDS: dict[str, tuple[Callable[..., Path], Callable[..., Any]]] = {
    "class folders": (stored_pictures.class_folders, ImageFolder),
    "shards": (stored_pictures.shards, WebDataset),
    "arrow": (stored_pictures.arrow, HuggingFaceData),
}
BAD = 17


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, 3))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layers(image)
        return scores


def stored(kind: str, folder: Path) -> Dataset:
    write, source = KINDS[kind]
    loaded: Dataset = source(write(folder, {"train": range(60), "val": range(100, 120)}), PICTURES).load()
    return loaded


def in_memory(data: Dataset) -> Dataset:
    def split(given: Split) -> Split:
        assert given.reader is not None
        inputs, targets = zip(*map(given.reader.sample, range(len(given))), strict=True)
        return Split(np.stack(inputs), np.array(targets))

    return replace(data, train=split(data.train), validation=split(data.validation), test=split(data.test))


def shaken(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return batch + 0.1 * torch.randn(batch.shape, generator=generator)


def trained(
    data: Dataset, folder: Path, *, epochs: int = 2, world: World = ALONE, resume: bool | None = None,
    class_weights: Any = "balanced",
) -> Any:  # fmt: skip
    given = recipe(Net, augment=shaken, class_weights=class_weights)
    result = loop.train(given, data, options(epochs), folder, progress=Notes(), world=world, resume=resume)
    state = world.told(checkpoint.load(folder / checkpoint.RESUME) if world.leads else None)
    weights = {key: value.numpy() for key, value in state["trainer"]["model"].items()}
    return weights, [(each.loss, each.train_score, each.validation_score) for each in result.epochs]


@pytest.mark.parametrize("kind", KINDS)
def test_files_train_to_what_memory_trains_to(kind: str, tmp_path: Path) -> None:
    data = stored(kind, tmp_path / "data")
    weights, epochs = trained(data, tmp_path / "files")
    wanted, same = trained(in_memory(data), tmp_path / "memory")
    assert epochs == same
    for key, value in weights.items():
        np.testing.assert_array_equal(value, wanted[key])


def all_kinds(world: World) -> dict[str, Any]:
    folders = world.told(tempfile.mkdtemp() if world.leads else None)
    found = {}
    for kind in KINDS:
        place = Path(folders) / kind
        if world.leads:
            stored(kind, place)
        world.told(None)
        found[kind] = trained(KINDS[kind][1](place, PICTURES).load(), place / str(world.rank), world=world)
    place = Path(folders) / "class folders"
    if world.leads:
        break_one(place)
    world.told(None)
    reading.MAX_BAD.set(1)
    found["a bad one"] = trained(ImageFolder(place, PICTURES).load(), place / f"bad{world.rank}", world=world)
    skipped = History.from_json((place / "bad0" / "training.json").read_bytes()).skipped
    found["skipped"] = [Path(text.split(" is ")[0]).name for text in skipped]
    return found


def break_one(folder: Path) -> None:
    (path,) = folder.rglob(f"{BAD:05}.png")
    path.write_bytes(b"no picture")


def test_two_processes_come_to_the_same(tmp_path: Path) -> None:
    by_two = together(2, all_kinds, tmp_path)
    token = reading.MAX_BAD.set(1)
    try:
        alone = {kind: in_memory(stored(kind, tmp_path / kind)) for kind in KINDS}
        break_one(tmp_path / "class folders")
        alone["a bad one"] = ImageFolder(tmp_path / "class folders", PICTURES).load()
    finally:
        reading.MAX_BAD.reset(token)
    assert [each["skipped"] for each in by_two] == [[f"{BAD:05}.png"]] * 2
    for kind, data in alone.items():
        weights, epochs = trained(data, tmp_path / f"{kind} alone")
        for found, said in (each[kind] for each in by_two):
            np.testing.assert_allclose(said, epochs, rtol=1e-5)
            for key, value in weights.items():
                np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-5)


@pytest.fixture
def one_bad(tmp_path: Path) -> Path:
    folder = stored_pictures.class_folders(tmp_path / "data", {"train": range(60), "val": range(100, 120)})
    break_one(folder)
    return folder


def test_the_first_bad_sample_ends_a_training(one_bad: Path, tmp_path: Path) -> None:
    with pytest.raises(BadUsage, match=f"{BAD:05}.png is not a readable image"):
        trained(ImageFolder(one_bad, PICTURES).load(), tmp_path / "made")


def test_what_is_skipped_is_kept_and_a_resumed_training_comes_to_the_same(one_bad: Path, tmp_path: Path) -> None:
    weighted: dict[str, Any] = {"class_weights": [0.5, 1.0, 1.5]}  # balanced ones count the picture that cannot be read
    token = reading.MAX_BAD.set(1)
    try:
        unbroken, broken, stand_in = (ImageFolder(one_bad, PICTURES).load() for _ in range(3))
        weights, epochs = trained(unbroken, tmp_path / "unbroken", epochs=3, **weighted)
        wanted, same = trained(in_memory(stand_in), tmp_path / "memory", epochs=3, **weighted)
        trained(broken, tmp_path / "broken", epochs=1, **weighted)
        again, resumed = trained(
            ImageFolder(one_bad, PICTURES).load(), tmp_path / "broken", epochs=3, resume=True, **weighted
        )
    finally:
        reading.MAX_BAD.reset(token)
    assert epochs == same == resumed
    for key, value in weights.items():
        np.testing.assert_array_equal(value, wanted[key])
        np.testing.assert_array_equal(value, again[key])
    for folder in ("unbroken", "broken"):
        history = History.from_json((tmp_path / folder / "training.json").read_bytes())
        assert len(history.skipped) == 1
        assert f"{BAD:05}.png is not a readable image" in history.skipped[0]

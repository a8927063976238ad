"""What ``--calibration`` takes of pictures, shards and tables: as many as are wanted, the same whatever holds them."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtimes.base import TensorSpec
from tests import stored_pictures
from tests.stored_pictures import CLASSES, picture, png
from toolchain.datasets import image_folder, reading
from toolchain.datasets.class_folders import PicturesInFolders
from toolchain.errors import BadUsage
from toolchain.inputs import samples, stored
from toolchain.recipe import Pictures, Recipe, WebDataset

IMAGE = [TensorSpec("image", "float32", ("batch", 3, 6, 6))]
WRITERS: dict[str, Callable[..., Path]] = {
    "class folders": stored_pictures.class_folders,
    "shards": stored_pictures.shards,
    "arrow": stored_pictures.arrow,
}


def expected(number: int) -> bytes:
    pixels = image_folder.pictures_for(IMAGE[0].shape, "it").decode(png(picture(number)), "it")
    return image_folder.normalised(pixels).tobytes()


def read(source: Path | str, specs: Sequence[TensorSpec] = IMAGE, *, count: int = 1000, split: str = "train") -> Any:
    return stored.opened(str(source), specs, split=split).read(count)


@pytest.mark.parametrize("kind", WRITERS)
def test_pictures_are_those_of_the_split_with_their_labels(kind: str, tmp_path: Path) -> None:
    folder = WRITERS[kind](tmp_path / "data", {"train": range(30), "val": range(100, 109)})
    for split, numbers in (("train", range(30)), ("test", range(100, 109))):
        inputs, labels, said = read(folder, split=split)
        assert sorted(zip(map(bytes, inputs["image"]), labels, strict=True)) == sorted(
            (expected(number), number % len(CLASSES)) for number in numbers
        )
        assert said == f", {image_folder.PREPROCESSING}"


def test_pictures_right_in_a_folder_have_no_labels(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(png(picture(1)))
    inputs, labels, _ = read(tmp_path)
    assert bytes(inputs["image"][0]) == expected(1)
    assert labels is None
    with pytest.raises(BadUsage, match="holds images, and the model takes"):
        read(tmp_path, [TensorSpec("x", "float32", ("batch", 4))])


def test_no_more_are_read_than_are_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stored_pictures.class_folders(tmp_path, {"": range(40)})
    asked: list[int] = []
    whole = PicturesInFolders.read

    def watched(self: PicturesInFolders, row: int) -> Any:
        asked.append(row)
        return whole(self, row)

    monkeypatch.setattr(PicturesInFolders, "read", watched)
    inputs, _, _ = read(folder, count=7)
    assert len(inputs["image"]) == len(asked) == 7
    assert max(asked) > 7  # drawn from all of them


def test_a_bad_one_is_left_out_and_said(tmp_path: Path) -> None:
    folder = stored_pictures.class_folders(tmp_path, {"": range(20)})
    (broken,) = folder.rglob("00004.png")
    broken.write_bytes(b"")
    with pytest.raises(BadUsage, match=r"00004\.png is not a readable image"):
        read(folder)
    token = reading.MAX_BAD.set(1)
    try:
        inputs, labels, said = read(folder)
    finally:
        reading.MAX_BAD.reset(token)
    assert len(inputs["image"]) == len(labels) == 19
    assert said.endswith(f"; 1 that cannot be read left out: {broken} is not a readable image")


def test_arrays_of_shards_and_tables_are_inputs_by_their_names(tmp_path: Path) -> None:
    import datasets

    def npy(values: Any) -> bytes:
        file = io.BytesIO()
        np.save(file, values)
        return file.getvalue()

    specs = [TensorSpec("ids", "int32", ("batch", 3)), TensorSpec("x", "float32", ("batch", 2))]
    ids = [np.full(3, row, np.int32) for row in range(12)]
    values = [np.full(2, row / 2, np.float32) for row in range(12)]
    path = stored_pictures.shard(
        tmp_path / "all.tar",
        [(f"{row}", {"ids.npy": npy(ids[row]), "x.npy": npy(values[row]), "cls": b"%d" % row}) for row in range(12)],
    )
    datasets.disable_progress_bars()
    rows = {"ids": [each.tolist() for each in ids], "x": [each.tolist() for each in values], "label": list(range(12))}
    datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path / "table"))
    for source in (path, tmp_path / "table"):
        inputs, labels, said = read(source, specs)
        assert (inputs["ids"].dtype, inputs["x"].dtype, said) == (np.int32, np.float32, "")
        for place, label in enumerate(labels):
            np.testing.assert_array_equal(inputs["ids"][place], ids[label])
            np.testing.assert_array_equal(inputs["x"][place], values[label])
        with pytest.raises(BadUsage, match="and the model takes other, more"):
            read(source, [TensorSpec("other", "float32", (1,)), TensorSpec("more", "float32", (1,))])


def test_a_recipe_s_samples_are_no_more_than_may_be_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stored_pictures.shards(tmp_path, {"train": range(30), "test": range(30, 50)})
    given = Recipe(
        name="small", model=lambda: pytest.fail("no model"), data=lambda folder: pytest.fail("it is given"),
        epochs=1, batch_size=1, lr=1,
    )  # fmt: skip
    data = WebDataset(folder, Pictures(size=(6, 6))).load()
    assert len(samples.of_test_split(given, data)) == 20
    assert samples.of_test_split(given, data, 5).source == "5 of the 20 of the test split of small"
    monkeypatch.setattr(samples, "MOST_JUDGED_BYTES", 7 * 4 * 3 * 6 * 6)
    taken = samples.of_test_split(given, data)
    assert (len(taken), taken.source) == (7, "7 of the 20 of the test split of small")
    assert len(samples.of_train_split(given, data, 100)) == 7

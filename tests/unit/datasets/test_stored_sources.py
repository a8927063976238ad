"""Pictures in folders, in tar shards and in Arrow files: the same samples, splits and digests that notice changes."""

import io
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import stored_pictures
from tests.stored_pictures import CLASSES, picture, png
from toolchain.datasets import reading, shards
from toolchain.datasets.dataset import Dataset, DataSource, Scale, Split
from toolchain.errors import BadUsage
from toolchain.recipe import Drawn, HuggingFaceData, ImageFolder, Pictures, WebDataset

Source = Callable[..., Any]
KINDS: dict[str, tuple[Callable[..., Path], Source]] = {
    "class folders": (stored_pictures.class_folders, ImageFolder),
    "shards": (stored_pictures.shards, WebDataset),
    "arrow": (stored_pictures.arrow, HuggingFaceData),
}
PARTS = {"train": range(30), "val": range(100, 109), "test": range(200, 206)}
RANDOM = np.random.default_rng(0)


def samples_of(split: Split) -> Counter[tuple[bytes, int]]:
    assert split.reader is not None
    found = map(split.reader.sample, range(len(split)))
    return Counter((np.asarray(pixels).tobytes(), int(label)) for pixels, label in found)


def stored(numbers: Any) -> Counter[tuple[bytes, int]]:
    return Counter((picture(number).transpose(2, 0, 1).tobytes(), number % len(CLASSES)) for number in numbers)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_holds_the_samples_in_their_splits(kind: str, tmp_path: Path) -> None:
    write, source = KINDS[kind]
    made = source(write(tmp_path / "data", PARTS))
    data: Dataset = made.load()
    for name, part in (("train", "train"), ("validation", "val"), ("test", "test")):
        assert samples_of(data.splits[name]) == stored(PARTS[part])
    assert isinstance(data.train.targets, np.ndarray)
    assert len(set(data.train.targets[:9].tolist())) == len(CLASSES)  # no class after the other
    assert data.classes == (() if kind == "shards" else CLASSES)
    assert isinstance(data.scale, Scale)
    assert data.scale.divisor == 255


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_no_splits_is_split_by_the_seed(kind: str, tmp_path: Path) -> None:
    write, source = KINDS[kind]
    folder = write(tmp_path / "data", {"train": range(40)})
    data, again, other = (source(folder, drawn=Drawn(seed=seed)).load() for seed in (0, 0, 1))
    assert [len(split) for split in data.splits.values()] == [32, 4, 4]
    assert sum((samples_of(split) for split in data.splits.values()), Counter()) == stored(range(40))
    assert samples_of(data.test) == samples_of(again.test) != samples_of(other.test)


@pytest.mark.parametrize("kind", KINDS)
def test_the_digest_notices_a_change_without_reading(kind: str, tmp_path: Path) -> None:
    write, source = KINDS[kind]
    folder = write(tmp_path / "data", PARTS)
    first = source(folder).digest()
    assert source(folder).digest() == first
    assert source(folder, Pictures(size=(4, 4))).digest() != first
    files = sorted(path for path in folder.rglob("*") if path.suffix in {".png", ".tar", ".arrow"})
    there = files[3 % len(files)].stat()
    os.utime(files[3 % len(files)], ns=(there.st_atime_ns, there.st_mtime_ns + 1))
    assert source(folder).digest() != first
    os.utime(files[3 % len(files)], ns=(there.st_atime_ns, there.st_mtime_ns))
    assert source(folder).digest() == first
    files[0].write_bytes(files[0].read_bytes() + b"\0")
    assert source(folder).digest() != first


def test_pictures_become_one_size(tmp_path: Path) -> None:
    wide = RANDOM.integers(0, 255, (20, 40, 3), np.uint8)
    content = png(wide)
    assert Pictures().decode(content, "it").shape == (3, 20, 40)
    assert Pictures(size=(10, 10)).decode(content, "it").shape == (3, 10, 10)
    np.testing.assert_array_equal(Pictures(size=(20, 40)).decode(content, "it"), wide.transpose(2, 0, 1))
    np.testing.assert_array_equal(Pictures(size=(20, 20)).decode(content, "it"), wide[:, 10:30].transpose(2, 0, 1))
    assert Pictures(size=(7, 9), crop=None).decode(content, "it").shape == (3, 7, 9)
    (saved,) = Pictures(size=(20, 20), crop=0.5).save(tmp_path)
    assert json.loads(saved.read_text())["crop"] == 0.5
    with pytest.raises(BadUsage, match="A crop of 2"):
        Pictures(crop=2)


def with_max_bad(most: int, load: Callable[[], Any]) -> Any:
    token = reading.MAX_BAD.set(most)
    try:
        return load()
    finally:
        reading.MAX_BAD.reset(token)


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    folder = stored_pictures.class_folders(tmp_path, PARTS)
    broken = folder / "train" / CLASSES[0] / "00003.png"
    broken.write_bytes(broken.read_bytes()[:50])
    data = ImageFolder(folder).load()
    with pytest.raises(BadUsage, match=f"^{broken} is not a readable image.$"):
        samples_of(data.train)
    data = with_max_bad(1, ImageFolder(folder).load)
    found = samples_of(data.train)
    assert found.total() == 30
    assert set(found) == set(stored(number for number in range(30) if number != 3))
    assert data.bad.found == (f"{broken} is not a readable image",)
    assert samples_of(data.validation) == stored(PARTS["val"])


def test_what_a_shard_lacks_is_named_and_left_out(tmp_path: Path) -> None:
    good = [stored_pictures.sample(number) for number in range(12)]
    odd = [
        ("a", {"png": good[0][1]["png"]}),
        ("b", {"cls": b"1"}),
        ("c", {"png": good[0][1]["png"], "cls": b"one"}),
        ("d", {"png": good[0][1]["png"], "jpg": good[0][1]["png"], "cls": b"1"}),
        ("e", {"png": b"no picture", "cls": b"1"}),
    ]
    path = stored_pictures.shard(tmp_path / "data" / "train.tar", [*good, *odd])
    with pytest.raises(BadUsage, match="3 samples cannot be read, more than --max-bad 2"):
        with_max_bad(2, WebDataset(tmp_path / "data").load)
    data = with_max_bad(5, WebDataset(tmp_path / "data", drawn=Drawn(seed=1)).load)
    assert sum(map(len, data.splits.values())) == 13
    for split in data.splits.values():
        assert set(samples_of(split)) <= set(stored(range(12)))
    assert data.bad.found == tuple(
        sorted(
            [
                f"'a' in {path} has no .cls",
                f"'b' in {path} has no .jpg or .jpeg or .png",
                f"'c' in {path} has no class number in its .cls",
                f"'d' in {path} has more than one .jpg or .jpeg or .png",
                f"'e.png' in {path} is not a readable image",
            ]
        )
    )


def test_a_shard_that_is_cut_off_counts_once(tmp_path: Path) -> None:
    folder = stored_pictures.shards(tmp_path / "data", PARTS)
    cut = folder / "train-000001.tar"
    cut.write_bytes(cut.read_bytes()[:5000])
    with pytest.raises(BadUsage, match=f"{cut} is cut off"):
        WebDataset(folder).load()
    data = with_max_bad(1, WebDataset(folder).load)
    assert 20 < len(data.train) < 30
    assert samples_of(data.train) == stored(range(len(data.train)))


def test_a_shard_that_changes_meanwhile_is_told(tmp_path: Path) -> None:
    folder = stored_pictures.shards(tmp_path / "data", PARTS)
    data = WebDataset(folder).load()
    os.utime(folder / "val-000000.tar", ns=(0, 0))
    with pytest.raises(BadUsage, match="has changed since"):
        samples_of(data.validation)


def test_members_of_several_kinds(tmp_path: Path) -> None:
    def npy(values: Any) -> bytes:
        file = io.BytesIO()
        np.save(file, values, allow_pickle=True)
        return file.getvalue()

    def sample(number: int, values: Any) -> tuple[str, dict[str, bytes]]:
        facts = json.dumps({"number": number}).encode()
        return f"{number}", {"wave.npy": npy(values), "json": facts, "txt": b"caf\xc3\xa9", "pth": b"never read"}

    waves = [sample(number, np.full(3, number, np.float32)) for number in range(10)]
    bad = [sample(10, np.array([1, np.nan], np.float32)), sample(11, np.array([object()]))]
    path = stored_pictures.shard(tmp_path / "train.tar", [*waves, *bad])
    source: DataSource = WebDataset(path, inputs={"wave": "wave.npy", "said": "txt"}, targets="json")
    data = with_max_bad(2, source.load)
    for split in data.splits.values():
        for place in range(len(split)):
            inputs, target = split.inputs[place], split.targets[place]
            assert inputs["said"] == "café"
            np.testing.assert_array_equal(inputs["wave"], np.full(3, target["number"]))
    assert data.bad.found == (
        f"'10.wave.npy' in {path} holds NaN or infinity", f"'11.wave.npy' in {path} is not a readable .npy",
    )  # fmt: skip
    with pytest.raises(BadUsage, match=r"A member '\.pth' is not decoded"):
        WebDataset(path, inputs="pth")


def test_shards_are_named_by_a_range(tmp_path: Path) -> None:
    stored_pictures.shards(tmp_path, {"train": range(30)}, each=10)
    found = shards.files_of(f"{tmp_path}/train-{{000000..000002}}.tar")
    assert [path.name for path in found] == [f"train-{number:06}.tar" for number in range(3)]
    with pytest.raises(BadUsage, match=r"There is no .*train-000003\.tar"):
        shards.files_of(f"{tmp_path}/train-{{000001..000003}}.tar")
    with pytest.raises(BadUsage, match=r"names no shards"):
        shards.files_of(f"{tmp_path}/train-{{0..99999999999}}.tar")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadUsage, match=r"has no \.tar files"):
        shards.files_of(tmp_path / "empty")


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # it leaves its files open
def test_webdataset_reads_the_same_samples_in_the_same_order(tmp_path: Path) -> None:
    import webdataset

    folder = stored_pictures.shards(tmp_path, {"train": range(25)})
    theirs = webdataset.WebDataset([str(path) for path in shards.files_of(folder)], shardshuffle=False)
    ours = shards.Shards(shards.files_of(folder), "png", "cls", Pictures(), WebDataset(folder).load().bad)
    wanted = list(theirs)
    assert len(wanted) == len(ours) == 25
    for row, each in enumerate(wanted):
        pixels, label = ours.read(row)
        np.testing.assert_array_equal(pixels, Pictures().decode(each["png"], "theirs"))
        assert int(each["cls"]) == label


def test_columns_of_a_table(tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    rows = {
        "x": [[float(row), 0.5] for row in range(20)],
        "y": [None if row == 4 else row % 2 for row in range(20)],
        "said": [f"row {row}" for row in range(20)],
    }
    datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path))
    with pytest.raises(BadUsage, match=r"row 4 of .* has nothing in 'y'"):
        HuggingFaceData(tmp_path, inputs="x", targets="y").load()
    data = with_max_bad(1, HuggingFaceData(tmp_path, inputs={"x": "x", "said": "said"}, targets="y").load)
    assert sum(map(len, data.splits.values())) == 19
    for place in range(len(data.train)):
        row = int(data.train.inputs[place]["x"][0])
        assert data.train.inputs[place]["said"] == f"row {row}"
        assert data.train.targets[place] == row % 2
    with pytest.raises(BadUsage, match="has no column 'z'"):
        HuggingFaceData(tmp_path, inputs="z", targets="y").load()


def test_a_picture_that_a_table_names_elsewhere_is_not_read(tmp_path: Path) -> None:
    import pyarrow as pa

    folder = stored_pictures.arrow(tmp_path / "data", {"train": range(12)})
    elsewhere = tmp_path / "secret.png"
    elsewhere.write_bytes(png(picture(1)))
    (file,) = folder.rglob("*.arrow")
    with pa.ipc.open_stream(file.read_bytes()) as stream:
        table = stream.read_all()
    cells = pa.array([{"bytes": None, "path": str(elsewhere)}] * 12, table.schema.field("image").type)
    with pa.ipc.new_stream(str(file), table.schema) as written:
        written.write_table(table.set_column(table.schema.get_field_index("image"), table.schema.field("image"), cells))
    with pytest.raises(BadUsage, match=r"row .* names a picture in another place"):
        HuggingFaceData(folder).load().train.inputs[0]


def test_a_table_that_is_cut_off_is_named(tmp_path: Path) -> None:
    folder = stored_pictures.arrow(tmp_path / "data", {"train": range(12)})
    (file,) = folder.rglob("*.arrow")
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(BadUsage, match=r"train cannot be read"):
        HuggingFaceData(folder).load()


def test_a_class_may_be_called_as_a_split_is(tmp_path: Path) -> None:
    for name in ("train", "plane", "test"):
        (tmp_path / name).mkdir()
        for number in range(10):
            (tmp_path / name / f"{number}.png").write_bytes(png(picture(number)))
    data = ImageFolder(tmp_path).load()
    assert data.classes == ("plane", "test", "train")
    assert sum(map(len, data.splits.values())) == 30


def test_two_folders_are_not_one_split(tmp_path: Path) -> None:
    stored_pictures.class_folders(tmp_path, {"train": range(9), "val": range(3), "valid": range(3)})
    with pytest.raises(BadUsage, match="are both the validation split"):
        ImageFolder(tmp_path).load()


def test_a_mask_is_no_picture(tmp_path: Path) -> None:
    folder = stored_pictures.shards(tmp_path / "tars", {"train": range(9)})
    with pytest.raises(BadUsage, match="A picture is the target"):
        WebDataset(folder, targets="seg.png")
    table = stored_pictures.arrow(tmp_path / "table", {"train": range(9)})
    with pytest.raises(BadUsage, match="A picture is the target"):
        HuggingFaceData(table, inputs="label", targets="image").load()


def test_rows_that_hold_no_numbers_are_bad(tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    values: list[Any] = [[1.0, 2.0] for _ in range(30)]
    values[4], values[5] = [1.0, float("nan")], None
    datasets.Dataset.from_dict({"x": values, "y": [0.5] * 30}).save_to_disk(str(tmp_path))
    data = with_max_bad(2, HuggingFaceData(tmp_path, inputs="x", targets="y").load)
    for split in data.splits.values():
        for place in range(len(split)):
            np.testing.assert_array_equal(split.reader.sample(place)[0], [1, 2])
    assert data.bad.found == tuple(f"row {row} of {tmp_path} holds NaN, infinity or nothing in 'x'" for row in (4, 5))

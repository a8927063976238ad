"""Files that are not what they say: one sentence, and no more memory than the budget."""

import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolchain import manifest, memory_budget, regular_file
from toolchain.datasets import arrays, cifar10_batches, image_file
from toolchain.errors import BadUsage

GOOD = np.arange(12, dtype=np.float32).reshape(3, 4)


def npy(header: str, data: bytes = b"") -> bytes:
    """An .npy file with that header, whatever follows it."""
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def header(shape: str, dtype: str = "'<f4'") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}"


def archive(path: Path, members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as content:
        for name, data in members:
            content.writestr(name, data)
    return path


def patched(path: Path, change: Callable[[bytearray], None]) -> Path:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def encrypted(data: bytearray) -> None:
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1


def unknown_method(data: bytearray) -> None:
    data[8] = 97
    data[data.index(b"PK\x01\x02") + 10] = 97


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
@pytest.mark.parametrize(
    "content",
    [
        npy(header("(-1, 4)"), bytes(64)),
        npy(header("(10**12, 4)"), bytes(64)),
        npy(header("(1000000000000, 4)"), bytes(64)),
        npy(header("(99999999999999999999999999,)"), bytes(64)),
        npy(header("(4, 4)"), bytes(60)),
        npy(header("(4, 4)", "'|O'"), bytes(64)),
        npy(header("(4,)", "[('a', '<f4')]"), bytes(64)),
        npy("{'descr': '<f4'}", bytes(64)),
        npy("[" * 5000, bytes(64)),
        npy("\x00", bytes(64)),
        b"\x93NUMPY\x09\x00",
        b"",
        b"plain text",
    ],
)
def test_an_npz_with_a_bad_array_is_refused(content: bytes, compression: int, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", [("x.npy", content)], compression)
    with pytest.raises(BadUsage, match="file of plain arrays"):
        arrays.load(path, ["x"])


def test_other_members_and_damage_are_refused(tmp_path: Path) -> None:
    good = npy(header("(4, 4)"), bytes(64))
    paths = [
        archive(tmp_path / "text.npz", [("x.npy", good), ("readme.txt", b"hello")]),
        patched(archive(tmp_path / "encrypted.npz", [("x.npy", good)]), encrypted),
        patched(archive(tmp_path / "method.npz", [("x.npy", good)]), unknown_method),
    ]
    with pytest.warns(UserWarning, match="Duplicate name"):
        paths.append(archive(tmp_path / "twice.npz", [("x.npy", good), ("x.npy", good)]))
    for path in paths:
        with pytest.raises(BadUsage, match="file of plain arrays"):
            arrays.load(path, ["x"])


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = archive(tmp_path / "bomb.npz", [("x.npy", npy(header("(50000000,)"), bytes(200_000_000)))])
    before = memory_budget.BYTES.set(10**8)
    tracemalloc.start()
    try:
        with pytest.raises(BadUsage, match=r"holds 0.2 GB, compressed; at most 0.1 GB"):
            arrays.load(path, ["x"])
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()
        memory_budget.BYTES.reset(before)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("array", [GOOD, np.asfortranarray(GOOD), GOOD[:0], np.float32(3), np.array(["a", "bc"])])
def test_good_arrays_come_back(
    save: Callable[..., None], array: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]", tmp_path: Path
) -> None:
    save(tmp_path / "a.npz", x=array, y=GOOD)
    found = arrays.load(tmp_path / "a.npz", ["x"])
    np.testing.assert_array_equal(found["x"], array)
    assert found["x"].dtype == np.asarray(array).dtype
    np.testing.assert_array_equal(found["y"], GOOD)
    found["y"][0, 0] = 7  # a change is the caller's own
    np.testing.assert_array_equal(arrays.load(tmp_path / "a.npz", ["x"])["y"], GOOD)


@settings(max_examples=50)
@given(st.data())
def test_a_damaged_npz_gives_arrays_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    buffer = io.BytesIO()
    data.draw(st.sampled_from([np.savez, np.savez_compressed]))(buffer, x=GOOD, y=np.arange(5))
    content = bytearray(buffer.getvalue())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "a.npz"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = arrays.load(path, ["x"])
    except BadUsage:
        return
    assert sum(array.nbytes for array in found.values()) <= 10_000


def png(width: int, height: int) -> bytes:
    """A grey image of that size, all black: a thousandth of its size as a file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes((width + 1) * min(height, 2)))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content",
    [
        png(30_000, 30_000),
        png(2**31 - 1, 2**31 - 1),
        png(10_000, 9_000),
        png(8, 8)[:40],
        b"",
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
    ],
)
def test_images_that_are_bombs_or_broken_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(BadUsage, match=r"is not a readable image|million pixels"):
        image_file.decode(tmp_path / "a.png", advice="Remove it.")


def test_a_line_of_pixels_does_not_become_an_endless_area(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1, 2))
    with pytest.raises(BadUsage, match="million pixels to decode"):
        image_file.decode(tmp_path / "a.png", advice="Remove it.", resize=lambda size: (256, 10**7))


@pytest.mark.parametrize(
    "content",
    [
        b"", b"text", pickle.dumps({}), pickle.dumps([1]), pickle.dumps({b"data": 3, b"labels": [1]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 10]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.float64), b"labels": [1, 2]}),
        pickle.dumps({b"data": np.zeros((2, 5), np.uint8), b"labels": [1, 2]}),
        pickle.dumps({b"data": None, b"labels": None}), pickle.dumps(os.system),
    ],
)  # fmt: skip
def test_batches_that_are_none_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(content)
    with pytest.raises(BadUsage, match="is not a batch of CIFAR-10"):
        cifar10_batches.read(tmp_path, ["data_batch_1"])


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "3", '"x"', "[" * 100_000, '{"schema_version": 1}', '{"schema_version": 1, "steps": []}',
        '{"schema_version": 1, "steps": {"train": 3}}', '{"schema_version": 1, "steps": {}, "recipe": ["x"]}',
        '{"schema_version": 1, "steps": {"train": {"inputs_sha256": "", "facts": {}, "outputs": {"../x": "0"}}}}',
    ],
)  # fmt: skip
def test_a_manifest_of_another_form_records_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(content)
    found = manifest.Manifest(tmp_path)
    assert found.fact("recipe") is None
    assert found.done("train", {}) is None


def test_pipes_are_never_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(BadUsage, match="is a pipe or a device"):
        regular_file.read_bytes(tmp_path / "manifest.json")
    with pytest.raises(BadUsage, match="is not an artifacts folder"):
        manifest.of_existing(tmp_path)
    with pytest.raises(BadUsage, match="is a pipe or a device"):
        regular_file.read_bytes(Path("/dev/zero"))


def test_a_manifest_that_we_write_is_read(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("x")
    written = manifest.Manifest(tmp_path)
    written.describe(recipe="digits", data=None)
    written.record("export", {"a": 1}, [tmp_path / "model.onnx"], {"drop": float("inf")})
    found = manifest.Manifest(tmp_path)
    assert found.done("export", {"a": 1}) == {"drop": float("inf")}
    assert json.loads((tmp_path / "manifest.json").read_text())["recipe"] == "digits"

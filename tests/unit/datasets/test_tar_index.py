"""The index of a tar shard: what it finds, keeps, and says of a shard that is cut off, damaged or hostile."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tests import stored_pictures
from toolchain.datasets import tar_index
from toolchain.datasets.tar_index import Index
from toolchain.errors import BadUsage


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def content(path: Path, index: Index) -> list[tuple[str, str, bytes]]:
    """(key, extension, bytes) of every member."""
    whole = path.read_bytes()
    return [
        (index.key(int(sample)), index.kinds[kind], whole[offset : offset + size])
        for sample, kind, offset, size in zip(index.sample, index.kind, index.offset, index.size, strict=True)
    ]


def expected(count: int) -> list[tuple[str, str, bytes]]:
    samples = map(stored_pictures.sample, range(count))
    return [(key, kind, value) for key, members in samples for kind, value in members.items()]


def test_it_says_where_each_member_lies(tmp_path: Path) -> None:
    path = stored_pictures.shard(tmp_path / "a.tar", map(stored_pictures.sample, range(7)))
    index = tar_index.of(path)
    assert content(path, index) == expected(7)
    assert index.number[index.kind == index.kinds.index("cls")].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert index.faults == ()


def test_it_is_kept_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored_pictures.shard(tmp_path / "a.tar", map(stored_pictures.sample, range(4)))
    tar_index.of(path)
    with monkeypatch.context() as without:
        without.setattr(tar_index, "_read", lambda shard: pytest.fail("it was kept"))
        assert content(path, tar_index.of(path)) == expected(4)
    (kept,) = tar_index.cache_folder().iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    assert len(tar_index.of(path)) == 4
    stored_pictures.shard(path, map(stored_pictures.sample, range(5)))
    assert len(tar_index.of(path)) == 5
    os.utime(path, ns=(0, 0))
    tar_index.of(path)
    assert len(list(tar_index.cache_folder().iterdir())) == 3


@given(cut=some.integers(0, 10**6))
def test_a_shard_cut_off_anywhere_gives_its_whole_samples_and_says_so(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = stored_pictures.shard(tmp_path_factory.mktemp("cut") / "a.tar", map(stored_pictures.sample, range(4)))
    whole = path.read_bytes()
    path.write_bytes(whole[: cut % len(whole)])
    index = tar_index.of(path)
    found = content(path, index)
    assert found == expected(4)[: len(found)]
    assert len(found) % 2 == 0
    if cut % len(whole) < index_end(whole):
        assert len(index.faults) == 1
        assert str(path) in index.faults[0]


@given(changes=some.lists(some.tuples(some.integers(0, 10**6), some.integers(0, 255)), min_size=1, max_size=6))
def test_whatever_stands_in_a_shard_its_members_lie_in_it(
    changes: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = stored_pictures.shard(tmp_path_factory.mktemp("changed") / "a.tar", map(stored_pictures.sample, range(3)))
    content = bytearray(path.read_bytes())
    for place, value in changes:  # in the headers, which are a third of it, and in what they are of
        content[place % len(content)] = value
    path.write_bytes(content)
    try:
        index = tar_index.of(path)
    except BadUsage as refused:
        assert "is compressed" in refused.what
        return
    assert (index.offset >= 512).all()
    assert (index.size >= 0).all()
    assert (index.offset + index.size <= len(content)).all()
    assert len(index.sample) == len(index.kind) == len(index.number)
    assert set(index.sample.tolist()) == set(range(len(index)))
    assert all(index.key(sample).isprintable() for sample in range(len(index)))


def index_end(whole: bytes) -> int:
    """Where the first block of the end mark ends."""
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        last = archive.getmembers()[-1]
    return last.offset_data + -(-last.size // 512) * 512 + 512


def test_bytes_changed_in_a_header_end_it_there(tmp_path: Path) -> None:
    path = stored_pictures.shard(tmp_path / "a.tar", map(stored_pictures.sample, range(6)))
    damaged = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        offset = archive.getmembers()[6].offset
    damaged[offset + 10] ^= 0xFF
    path.write_bytes(damaged)
    index = tar_index.of(path)
    assert len(index) == 2  # the third was whole, and the fourth's header is not: whether the third was is not known
    assert index.faults == (f"{path} is cut off or damaged after {offset:,} bytes: there is no end mark",)


def test_what_is_no_plain_file_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for kind, name in [(tarfile.SYMTYPE, "1.png"), (tarfile.LNKTYPE, "2.png"), (tarfile.FIFOTYPE, "3.png")]:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
        archive.addfile(tarfile.TarInfo("4.png"))
    index = tar_index.of(path)
    assert content(path, index) == [("4", "png", b"")]
    assert index.faults == tuple(f"{path} holds '{number}.png', which is no plain file" for number in (1, 2, 3))


def test_a_header_that_wants_the_memory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    entry = tarfile.TarInfo("./@LongLink")
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 8 << 20
    path.write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(9 << 20))
    assert tar_index.of(path).faults == (f"{path} is no tar file",)


@pytest.mark.parametrize("start", [b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd"])
def test_a_compressed_one_is_refused(start: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(start + bytes(600))
    with pytest.raises(BadUsage, match="is compressed"):
        tar_index.of(tmp_path / "a.tar")


@pytest.mark.parametrize(
    ("name", "key", "kind"),
    [
        ("a/b.jpg", "a/b", "jpg"),
        ("a.b/c.seg.png", "a.b/c", "seg.png"),
        ("x.PNG", "x", "png"),
        ("README", None, None),
        ("._x.png", None, None),
    ],
)
def test_names_are_cut_as_webdataset_cuts_them(name: str, key: str | None, kind: str | None, tmp_path: Path) -> None:
    from webdataset.tariterators import base_plus_ext

    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    index = tar_index.of(tmp_path / "a.tar")
    assert [(index.key(row), index.kinds[row]) for row in range(len(index))] == ([] if key is None else [(key, kind)])
    base, extension = base_plus_ext(name)
    if key is not None:
        assert (base, extension.lower()) == (key, kind)

"""Archives that do harm are refused before a byte of them is written."""

import io
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolchain.shipping import archive
from toolchain.shipping.bad_package import BadPackage

Write = Callable[[Path], None]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tar(*entries: tuple[str, dict[str, Any]], **how: Any) -> Write:
    """An archive of entries by name, with fields of their own, behind one honest file."""

    def write(path: Path) -> None:
        with tarfile.open(path, "w", **how) as made:
            for name, fields in (("p/manifest.json", {}), *entries):
                entry = tarfile.TarInfo(name)
                entry.size = 3
                for field, value in fields.items():
                    setattr(entry, field, value)
                made.addfile(entry, io.BytesIO(b"{}\n") if entry.isreg() else None)

    return write


def zipped(*entries: tuple[str, int], content: bytes = b"{}\n", method: int = zipfile.ZIP_STORED) -> Write:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as made:
            for name, mode in (("p/manifest.json", 0), *entries):
                entry = zipfile.ZipInfo(name)
                entry.external_attr = mode << 16
                made.writestr(entry, content, method)

    return write


def raw(content: bytes) -> Write:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def changed(write: Write, change: Callable[[bytearray], None]) -> Write:
    def written(path: Path) -> None:
        write(path)
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)

    return written


def in_header(size: bytes) -> Callable[[bytearray], None]:
    """Give the second header of a .tar, at 1024, that size and a sum that fits."""

    def change(content: bytearray) -> None:
        header = content[1024:1536]
        header[124:136] = size
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        content[1024:1536] = header

    return change


def endless(content: bytearray) -> None:
    """Let the last entry of a .zip unpack to 4 GB, as its directory has it."""
    place = content.rindex(b"PK\1\2") + 24
    content[place : place + 4] = (2**32 - 2).to_bytes(4, "little")


def encrypted(content: bytearray) -> None:
    for mark, place in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        content[content.rindex(mark) + place] |= 1


LINK = {"linkname": "/etc/passwd", "size": 0}
HOSTILE: dict[str, tuple[Write, str]] = {
    "tar: traversal": (tar(("p/../../outside", {})), "leads out of its folder"),
    "tar: absolute": (tar(("/tmp/outside", {})), "is absolute"),
    "tar: link": (tar(("p/a", {"type": tarfile.SYMTYPE, **LINK})), "which is a link"),
    "tar: hard link": (tar(("p/a", {"type": tarfile.LNKTYPE, **LINK})), "which is a link"),
    "tar: link, then a file through it": (
        tar(("p/a", {"type": tarfile.SYMTYPE, **LINK}), ("p/a/passwd", {})), "which is a link",
    ),
    "tar: pipe": (tar(("p/a", {"type": tarfile.FIFOTYPE, "size": 0})), "which is a pipe"),
    "tar: device": (tar(("p/a", {"type": tarfile.CHRTYPE, "size": 0})), "which is a device"),
    "tar: sparse": (
        tar(("p/a", {"pax_headers": {"GNU.sparse.size": str(1 << 50), "GNU.sparse.map": "0,1"}})), "not unpacked",
    ),
    "tar: twice": (tar(("p/a", {}), ("p/a", {})), "twice"),
    "tar: case": (tar(("p/a", {}), ("p/A", {})), "take for one"),
    "tar: file and folder": (tar(("p/a", {}), ("p/a/b", {})), "file and as a folder"),
    "tar: not UTF-8": (tar(("p/\udcff", {}), format=tarfile.GNU_FORMAT, errors="surrogateescape"), "not UTF-8"),
    "tar: deep": (tar(("p/" + "d/" * 40, {"type": tarfile.DIRTYPE, "size": 0})), "folders deep"),
    "tar: many": (tar(*((f"p/{number}", {}) for number in range(10_001))), "more than 10,000"),
    "tar: says it is huge": (
        changed(tar(("p/a", {})), in_header(b"\x80" + (1 << 62).to_bytes(11, "big"))), "unpacks to",
    ),
    "tar: a size below zero": (changed(tar(("p/a", {})), in_header(b"\xff" * 10 + b"\xfe\0")), "unpacks to"),
    "tar: a size below zero in pax": (tar(("p/a", {"pax_headers": {"size": "-1024"}})), "unpacks to|read to its end"),
    "tar: a huge header": (tar(("p/a", {"pax_headers": {"comment": "x" * 5_000_000}})), "header that is too large"),
    "tar: a chain of headers": (
        raw(b"".join(tarfile.TarInfo().create_pax_global_header({"a": "b"}) for _ in range(3000))), "read to its end",
    ),
    "tar: cut": (changed(tar(("p/a", {})), lambda content: content.__delitem__(slice(1540, None))), "read to its end"),
    "zip: traversal": (zipped(("p/../../outside", 0)), "leads out of its folder"),
    "zip: absolute": (zipped(("/tmp/outside", 0)), "is absolute"),
    "zip: backslashes": (zipped(("p\\..\\..\\outside", 0)), "on Windows"),
    "zip: link": (zipped(("p/a", stat.S_IFLNK | 0o777)), "which is a link"),
    "zip: pipe": (zipped(("p/a", stat.S_IFIFO)), "no file and no folder"),
    "zip: case": (zipped(("p/a", 0), ("p/A", 0)), "take for one"),
    "zip: many": (zipped(*((f"p/{number}", 0) for number in range(10_001))), "more than 10,000"),
    "zip: too many": (zipped(*((f"p/{number:0200}", 0) for number in range(20_000))), "header that is too large"),
    "zip: bomb": (
        changed(zipped(("p/a", 0), content=bytes(10**6), method=zipfile.ZIP_DEFLATED), endless), "unpacks to",
    ),
    "zip: another method": (zipped(("p/a", 0), method=zipfile.ZIP_BZIP2), "another way than deflate"),
    "zip: encrypted": (changed(zipped(("p/a", 0)), encrypted), "encrypted"),
    "zip: wrong content": (
        changed(zipped(("p/a", 0)), lambda content: content.__setitem__(content.rindex(b"{}\n"), 0)), "read to its end",
    ),
    "nothing": (raw(b""), "no folder, and no .tar"),
    "text": (raw(b"hello\n" * 1000), "no folder, and no .tar"),
    "the start of a zip": (raw(b"PK\3\4" + bytes(100)), "no folder, and no .tar"),
    "compressed": (raw(b"\x1f\x8b\x08" + bytes(100)), "no folder, and no .tar"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Duplicate name")  # zipfile's, as it writes what is to be refused
@pytest.mark.parametrize("name", HOSTILE)
def test_what_does_harm_is_refused_in_a_sentence_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    write, why = HOSTILE[name]
    write(tmp_path / "sent")
    (tmp_path / "in" / "side").mkdir(parents=True)
    with pytest.raises(BadPackage, match=why):
        archive.unpack(tmp_path / "sent", tmp_path / "in" / "side")
    left = {path.name for path in tmp_path.rglob("*")} - {"sent", "in", "side"}
    assert left <= ({"p", "a", "manifest.json"} if name in ("zip: wrong content", "tar: cut") else set())
    assert not Path("/tmp/outside").exists()


@pytest.mark.parametrize("root", [".", "small.ortpackage"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_honest_archive_holds_what_its_folder_holds(kind: str, root: str, package: Path, tmp_path: Path) -> None:
    (package / "empty").mkdir()
    top = package.parent if root != "." else package
    sent = Path(shutil.make_archive(str(tmp_path / "sent"), kind, top, root))
    with archive.opened(sent) as folder:
        assert contents(folder) == contents(package)
        assert (folder / "empty").is_dir()
        assert not any(path.stat().st_mode & 0o111 for path in folder.rglob("*") if path.is_file())
    assert not folder.exists()


def test_gnu_tar_s_own_archive_is_read(package: Path, tmp_path: Path) -> None:
    (package / ("n" * 150)).write_text("a name that takes a header of its own")
    assert os.system(f"tar -C '{package}' -cf '{tmp_path / 'sent.tar'}' .") == 0
    with archive.opened(tmp_path / "sent.tar") as folder:
        assert contents(folder) == contents(package)


def test_a_folder_is_itself(package: Path) -> None:
    with archive.opened(package) as folder:
        assert folder == package


@given(
    kind=st.sampled_from(["tar", "zip", "deflated"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4),
    cut=st.none() | st.floats(0, 1),
)
def test_whatever_bytes_change_it_is_unpacked_or_refused(
    kind: str, changes: list[tuple[float, bytes]], cut: float | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        honest = tar(("p/a", {}), ("p/b/c", {})) if kind == "tar" else zipped(("p/a", 0), ("p/b/c", 0))
        (zipped(("p/a", 0), method=zipfile.ZIP_DEFLATED) if kind == "deflated" else honest)(place / "sent")
        content = bytearray((place / "sent").read_bytes())
        end = 2560 if kind == "tar" else len(content)  # what follows is padding
        for where, change in changes:
            at = int(where * (end - 1))
            content[at : at + len(change)] = change
        (place / "sent").write_bytes(content if cut is None else content[: int(cut * end)])
        (place / "in").mkdir()
        with suppress(BadPackage):
            archive.unpack(place / "sent", place / "in")
        assert {path.name for path in place.iterdir()} == {"sent", "in"}

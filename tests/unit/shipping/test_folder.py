"""A folder is walked without following what leads elsewhere."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from toolchain.shipping import folder
from toolchain.shipping.bad_package import BadPackage


def _socket(path: Path) -> None:
    listening = socket.socket(socket.AF_UNIX)
    os.chdir(path.parent)  # a socket's name has 107 bytes at most
    listening.bind(path.name)
    listening.close()


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (lambda path: path.symlink_to("README.md"), "a link"),
        (lambda path: path.symlink_to("/etc"), "a link"),
        (lambda path: path.symlink_to("nowhere"), "a link"),
        (os.mkfifo, "a pipe"),
        (_socket, "a socket"),
    ],
)
def test_what_is_no_file_is_refused(
    made: Callable[[Path], None], kind: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(package)
    made(package / "nnx" / "odd")
    with pytest.raises(BadPackage, match=f"nnx/odd', which is {kind}"):
        folder.files_in(package)


@pytest.mark.parametrize("name", [b"\xff.txt", b"a\\b", b"Readme.md", b"two\nlines"])
def test_names_are_looked_at(name: bytes, package: Path) -> None:
    (package / os.fsdecode(name)).touch()
    with pytest.raises(BadPackage, match=r"a name that|for one"):
        folder.files_in(package)


def test_nesting_has_an_end(package: Path) -> None:
    deep = package
    for _ in range(40):
        deep /= "d"
    deep.mkdir(parents=True)
    with pytest.raises(BadPackage, match="folders deep"):
        folder.files_in(package)


def test_a_file_that_becomes_a_link_after_the_look_is_not_read(package: Path) -> None:
    file = next(file for file in folder.files_in(package) if file.name == "README.md")
    file.path.unlink()
    file.path.symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic links"):
        folder.sha256_of(file)


def test_what_is_larger_than_may_be_is_not_read_to_its_end(package: Path) -> None:
    file = next(file for file in folder.files_in(package) if file.name == "README.md")
    assert folder.read(file, most_bytes=8) == b"# small\n"
    with pytest.raises(ValueError, match="more than"):
        folder.read(file, most_bytes=7)

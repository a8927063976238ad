"""Names are one and the same file on every system, or refused."""

import os
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toolchain.shipping.names import DEPTH, MOST, Names, why_not

PARTS = st.sampled_from(["a", "b.onnx", "é", "..", ".", "", "con", "C:", "a\\b", "x ", "~", "-rf", "*", "\n", "\udc80"])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/etc/passwd", "absolute"),
        ("../up", "out of"),
        ("a/../../up", "out of"),
        ("a//b", "empty part"),
        ("./a", "empty part"),
        ("", "empty part"),
        ("a\\..\\b", "Windows"),
        ("C:evil", "Windows"),
        ("file.txt:stream", "Windows"),
        ("nul", "Windows"),
        ("a/Con.txt", "Windows"),
        ("dot.", "Windows"),
        ("space ", "Windows"),
        ("two\nlines", "printed"),
        ("\x1b[31mred", "printed"),
        ("turned\u202egnp", "printed"),
        ("\udcff", "UTF-8"),
        ("x" * 256, "255 bytes"),
        ("/".join("d" * (DEPTH + 1)), "deep"),
    ],
)
def test_what_is_another_place_somewhere_is_refused(name: str, why: str) -> None:
    assert why in (why_not(name) or "")


@pytest.mark.parametrize(
    "name", ["a", ".hidden", "a b/c", "müller/模型.onnx", "console", "a..b", "shared_assets/sha256-0"]
)
def test_ordinary_names_are_taken(name: str) -> None:
    assert why_not(name) is None


@given(st.lists(PARTS | st.text(max_size=8), max_size=5).map("/".join))
@example("a/..")
def test_a_name_that_is_taken_stays_below_its_folder_on_every_system(name: str) -> None:
    if why_not(name) is not None:
        return
    assert os.path.normpath(f"/package/{name}") == f"/package/{name}"
    windows = PureWindowsPath(name)
    assert not windows.drive and not windows.root
    assert windows.parts == PurePosixPath(name).parts
    assert "\n" not in name and name.encode().decode() == name


@pytest.mark.parametrize(
    "pair",
    [
        ("a", "a"),
        ("A", "a"),
        ("d/a", "D/b"),
        ("straße", "STRASSE"),
        ("\u00e9", "e\u0301"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("A", "a/b"),
    ],
)
def test_two_names_that_some_system_takes_for_one_are_refused(pair: tuple[str, str]) -> None:
    taken = Names()
    taken.add(pair[0])
    with pytest.raises(ValueError, match=r"holds|has"):
        taken.add(pair[1])


def test_a_folder_may_come_before_and_after_what_lies_in_it() -> None:
    taken = Names()
    taken.add("a", folder=True)
    taken.add("a/b")
    taken.add("c/d")
    taken.add("c", folder=True)


def test_there_is_an_end_to_their_number() -> None:
    taken = Names()
    with pytest.raises(ValueError, match="more than 10,000"):
        for number in range(MOST + 1):
            taken.add(str(number))

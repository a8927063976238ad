import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolchain import legible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("conv_1", "conv_1"),
        ("Größe → 3 µs", "Größe → 3 µs"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("safe\u202egpj.exe", "safe\\u202egpj.exe"),
        ("\udcff", "\\udcff"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_instead(text: str, shown: str) -> None:
    assert legible.legible(text) == shown


def test_long_names_are_cut_in_the_middle() -> None:
    assert legible.cell("a" * 10**6 + "b").endswith("aab")
    assert len(legible.cell("a" * 10**6)) <= legible.MOST_IN_CELL + 3
    assert len(legible.sentence("\x1b" * 10**6)) <= 4 * legible.MOST_IN_SENTENCE + 3


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_hidden_is_left_and_nothing_plain_is_changed(text: str) -> None:
    shown = legible.legible(text)
    assert shown == legible.legible(shown)
    assert not any(character in shown for character in "\x00\x1b\n\r\u202e\u2028\ufeff")
    assert len(legible.in_markdown_cell(text).splitlines()) <= 1
    assert "|" not in legible.in_markdown_cell(text).replace("\\|", "")


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_of_a_csv_file_is_a_formula(text: str) -> None:
    assert legible.in_csv(text).startswith("'")


@given(st.text())
def test_a_csv_cell_stays_one(text: str) -> None:
    out = io.StringIO()
    csv.writer(out).writerow([legible.in_csv(text), "end"])
    assert list(csv.reader(io.StringIO(out.getvalue()))) == [[legible.in_csv(text), "end"]]


def test_negative_numbers_stay_numbers() -> None:
    assert [legible.in_csv(text) for text in ("-1.5", "+3", "-inf", "1e-3")] == ["-1.5", "+3", "-inf", "1e-3"]

import csv
import io
import json
import re

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
        ("\x7f", "\\u007f"),
        *((chr(code), f"\\u{code:04x}") for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F)),
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


@given(st.text())
def test_json_is_the_same_json_afterwards(text: str) -> None:
    assert json.loads(legible.legible(json.dumps({text: text}, indent=1), lines=True)) == {text: text}


@given(st.text(st.sampled_from("a\\|`<[]()&#;! \n\u202e")))
def test_markdown_that_is_obeyed_is_always_escaped(text: str) -> None:
    """By an odd number of backslashes, of which each pair is one."""
    ways = ((legible.in_markdown(text), "[`<"), (legible.in_markdown(text, code=True), "[<"))
    for shown, obeyed in (*ways, (legible.in_markdown_cell(text), "[`<|")):
        for place, character in enumerate(shown):
            before = len(shown[:place]) - len(shown[:place].rstrip("\\"))
            assert character not in obeyed or before % 2 == 1


@given(st.text(st.sampled_from("a` \n<|")))
def test_a_code_span_ends_at_its_end(text: str) -> None:
    shown = legible.code_in_markdown(text)
    fence = re.match("`+", shown)
    assert fence is not None
    assert len(shown.splitlines()) == 1
    if text.strip("`"):
        assert [run for run in re.findall("`+", shown) if len(run) == len(fence[0])] == [fence[0]] * 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", "a\\|b"),
        ("a\\|b", "a\\\\\\|b"),
        ("![](https://a.b/c.png)", "!\\[](https://a.b/c.png)"),
        ("<script>", "&lt;script>"),
        ("&#x202e;", "\\&#x202e;"),
        ("fish & chips", "fish & chips"),
        ("\x1b[0m", "\\x1b\\[0m"),
    ],
)
def test_markdown(text: str, shown: str) -> None:
    assert legible.in_markdown_cell(text) == shown


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

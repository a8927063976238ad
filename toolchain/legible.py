"""Text from files, as it may be shown: nothing in it moves a cursor, ends a cell, or starts a formula."""

import re
import textwrap
from collections.abc import Mapping, Sequence

# control characters, what turns the direction of text, invisible ones, separators of lines, and lone surrogates
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_HIDDEN_IN_LINES = re.compile(_HIDDEN.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))
_MARKDOWN = re.compile(r"<|`|\[|&(?=#|\w+;)|\\(?=[!-/:-@\[-`{-~])")
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")
MOST_IN_CELL = 200
MOST_IN_SENTENCE = 2_000


def legible(text: str, *, most: int | None = None, lines: bool = False) -> str:
    """``text`` with ``\\x1b`` for what would not be seen but obeyed; with ``lines`` newlines stay.

    With ``most`` it is cut in the middle: the two ends of a name tell more than its head.
    """
    kept = text if most is None or len(text) <= most else f"{text[: most // 2]} … {text[len(text) - most // 2 :]}"
    return (_HIDDEN_IN_LINES if lines else _HIDDEN).sub(_named, kept)


def _named(found: "re.Match[str]") -> str:
    if found[0] == "\x7f":  # the only one that JSON in ASCII holds as it is, and it knows no \x
        return "\\u007f"
    return found[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def cell(text: str) -> str:
    """In a table."""
    return legible(text, most=MOST_IN_CELL)


def sentence(text: str) -> str:
    """In a message, which may have several lines."""
    return legible(text, most=MOST_IN_SENTENCE, lines=True)


def in_markdown(text: str, *, code: bool = False) -> str:
    """A line of markdown: no newline ends it, and no tag, entity, link or image in it is one.

    ``code`` is for sentences of ours, in which commands stand between backticks: those stay.
    """

    def shown(found: "re.Match[str]") -> str:
        if found[0] == "`" and code:
            return "`"
        return "&lt;" if found[0] == "<" else f"\\{found[0]}"

    return _MARKDOWN.sub(shown, legible(text))


def in_markdown_cell(text: str) -> str:
    """A cell of a markdown table, which no pipe ends either."""
    return in_markdown(text).replace("|", "\\|")


def code_in_markdown(text: str) -> str:
    """A code span, in which nothing is obeyed: its fence is longer than any that stands in it."""
    shown = legible(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{fence} {shown} {fence}" if "`" in shown else f"{fence}{shown}{fence}"


def in_csv(text: str) -> str:
    """A cell of a CSV file that no spreadsheet takes for a formula."""
    shown = legible(text)
    return f"'{shown}" if text.startswith(_FORMULAS) and not _is_number(shown) else shown


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def shapes_in_words(shapes: Mapping[str, Sequence[int]]) -> str:
    """``x 8x3x64x64, flag scalar``."""
    return ", ".join(f"{cell(name)} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in shapes.items())


def hanging(start: str, texts: Sequence[str], width: int) -> list[str]:
    """``texts`` one below the other, each in lines of at most ``width`` that begin under the end of ``start``."""
    indent = " " * len(start)
    folded = [
        line
        for text in texts
        for line in textwrap.wrap(text, max(width - len(start), 20), break_long_words=False, break_on_hyphens=False)
    ]
    return [(start if index == 0 else indent) + line for index, line in enumerate(folded)]

"""Tables in HTML: captioned, with headers that a screen reader can follow."""

import re
from collections.abc import Sequence

from markupsafe import Markup

from toolchain.html_report.markup import joined, tag

_FIGURE = re.compile(r"[-−+±~]?[\d.,]+\D{0,3}|–|")
"""What counts as a figure, with a unit of up to three letters; intervals are figures by their column's others."""


def table(
    caption: str, headings: Sequence[str], rows: Sequence[Sequence[str]], *, hide_caption: bool = False
) -> Markup:
    """Rows whose first cell names them, in a box of its own that scrolls sideways where the page is narrow."""
    figures = numeric_columns(headings, rows)
    body = tag("tbody", *(line(row, figures) for row in rows))
    return framed(caption, headings, [body], figures=figures, hide_caption=hide_caption)


def framed(
    caption: str,
    headings: Sequence[str],
    bodies: Sequence[Markup],
    *,
    figures: Sequence[bool],
    hide_caption: bool = False,
) -> Markup:
    """The table around ``bodies``; ``figures`` says which columns stand to the right."""
    heads = (
        tag("th", heading, scope="col", class_="figure" if figure else None)
        for heading, figure in zip(headings, figures, strict=True)
    )
    shown = tag("caption", caption, class_="unseen" if hide_caption else None)
    whole = tag("table", shown, tag("thead", tag("tr", *heads)), *bodies)
    return tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)


def line(cells: Sequence[str], figures: Sequence[bool], *, struck: bool = False) -> Markup:
    """One row; ``struck`` strikes every cell but the first through."""
    name, *others = cells
    return tag(
        "tr",
        tag("th", name, scope="row"),
        *(
            tag("td", tag("s", cell) if struck and cell != "–" else cell, class_="figure" if figure else None)
            for cell, figure in zip(others, figures[1:], strict=True)
        ),
    )


def numeric_columns(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[bool]:
    """Which columns but the first, of names, hold figures: those of whose first words most are."""
    found = [False]
    for column in range(1, len(headings)):
        written = [row[column] for row in rows if row[column] not in ("", "–")]
        found.append(bool(written) and sum(_is_figure(cell) for cell in written) * 2 > len(written))
    return found


def facts(pairs: Sequence[tuple[str, str]]) -> Markup:
    """Names and what they stand for."""
    return tag("dl", *(joined(tag("dt", name), tag("dd", value)) for name, value in pairs), class_="facts")


def _is_figure(cell: str) -> bool:
    return bool(_FIGURE.fullmatch(cell.split(" ")[0]))

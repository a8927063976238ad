"""HTML that cannot be forgotten to escape: what is not MarkupSafe's :class:`Markup` is text."""

import re

from markupsafe import Markup, escape

from toolchain.legible import legible as in_plain_text

VOID = frozenset({"meta", "link", "br"})


NOTHING = Markup()
_IN_NO_XML = re.compile("[\ufffe\uffff]")
"""Characters that end the process that draws the charts, and that mean nothing."""


def legible(text: str) -> str:
    """``text`` as on a terminal: what would not be seen but obeyed is named; newlines stay."""
    return _IN_NO_XML.sub("\ufffd", in_plain_text(text, lines=True))


def tag(name: str, *content: str, **attributes: str | int | None) -> Markup:
    """An element. Attributes are named with underscores (``class_``, ``aria_label``); None leaves one out."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(legible(str(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{joined(*content)}</{name}>")


def joined(*content: str) -> Markup:
    """Pieces one after the other."""
    return NOTHING.join(piece if isinstance(piece, Markup) else legible(piece) for piece in content)


def command(*lines: str) -> Markup:
    """Command lines to copy; the box scrolls, and can be reached by keyboard, where they are long."""
    code = tag("code", "\n".join(lines))
    return tag("pre", code, tabindex=0, role="region", aria_label="Command lines")

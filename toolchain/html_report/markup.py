"""HTML that cannot be forgotten to escape: what is not MarkupSafe's :class:`Markup` is text."""

import re

from markupsafe import Markup, escape

VOID = frozenset({"meta", "link", "br"})


NOTHING = Markup()
_ILLEGIBLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML does not allow, which ends the process that draws the charts, and halves of surrogate pairs."""


def legible(text: str) -> str:
    """``text`` with a replacement character for each that a page or a drawing cannot hold."""
    return _ILLEGIBLE.sub("\ufffd", text)


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

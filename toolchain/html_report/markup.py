"""HTML that cannot be forgotten to escape: what is not :class:`Markup` is text."""

from html import escape

VOID = frozenset({"meta", "link", "br"})


class Markup(str):
    """HTML that is finished."""

    __slots__ = ()


NOTHING = Markup()


def tag(name: str, *content: str, **attributes: str | int | None) -> Markup:
    """An element. Attributes are named with underscores (``class_``, ``aria_label``); None leaves one out."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{joined(*content)}</{name}>")


def joined(*content: str) -> Markup:
    """Pieces one after the other."""
    return Markup("".join(piece if isinstance(piece, Markup) else escape(piece, quote=False) for piece in content))


def command(*lines: str) -> Markup:
    """Command lines to copy; the box scrolls, and can be reached by keyboard, where they are long."""
    code = tag("code", "\n".join(lines))
    return tag("pre", code, tabindex=0, role="region", aria_label="Command lines")

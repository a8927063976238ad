"""Docstrings are written for readers of the code; what Markdown would misread in them is set right for the pages."""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:mod|class|func|meth|data|attr|exc):`(?:[^`<]*<)?~?\.?([^`>]+)>?`")


def as_markdown(text: str) -> str:
    """Roles become code (``:mod:`.metrics``` says ``metrics``), and paragraphs that draw a tree keep their lines."""
    paragraphs = re.split(r"\n{2,}", _ROLE.sub(r"`\1`", text))
    return "\n\n".join(_indented(each) if "├──" in each else each for each in paragraphs)


def _indented(paragraph: str) -> str:
    return "\n".join(f"    {line}" for line in paragraph.splitlines())


class PlainRoles(griffe.Extension):
    """Rewrites every docstring as it is read."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)

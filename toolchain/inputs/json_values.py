"""Values on a command line: in JSON, or a plain word."""

import json
import re
from typing import Any

from toolchain.errors import BadUsage

_MEANT = {"true": "true", "false": "false", "none": "null", "yes": "true", "no": "false", "on": "true", "off": "false"}
"""What people write for JSON's true, false and null: taken for words, each of them would be true."""


def value_of(option: str, text: str) -> Any:
    """What ``text`` says in JSON, or itself where it is a plain word; ``option`` is what it came by."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if meant := _MEANT.get(text.lower()):
        raise BadUsage(f"{option} is not JSON.", f"Write {meant}.")
    if not re.fullmatch(r"[A-Za-z_][\w./:-]*", text):
        raise BadUsage(f"{option} is not JSON.", "Write 64, 0.5, true, null, '[1, 2]', or a plain word.")
    return text

"""Names in a package: such as are one and the same file on every system, whoever wrote them."""

import re
import unicodedata

from toolchain.legible import legible

MOST = 10_000
"""Files and folders in a package."""
DEPTH = 16
"""Parts of a name."""
_MOST_BYTES = 255  # of a part, as file systems have it
_MOST_SHOWN = 60
_RESERVED = re.compile(
    r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE
)  # devices, in any folder of Windows


def why_not(name: str) -> str | None:
    """What is wrong with ``name`` as that of a file in a package, to complete "a name that ..."; None for nothing."""
    try:
        size = max(len(part.encode()) for part in name.split("/"))
    except UnicodeEncodeError:
        return "is not UTF-8"
    parts = name.split("/")
    if name.startswith("/"):
        return "is absolute"
    if ".." in parts:
        return "leads out of its folder"
    if "" in parts or "." in parts:
        return "has an empty part"
    if "\\" in name or ":" in name:
        return "is another place on Windows"
    if not name.isprintable():
        return "holds characters that are not printed"
    if len(parts) > DEPTH:
        return f"lies more than {DEPTH} folders deep"
    if size > _MOST_BYTES:
        return f"is longer than {_MOST_BYTES} bytes"
    if any(part[-1] in ". " or _RESERVED.fullmatch(part) for part in parts):
        return "Windows does not keep"
    return None


def shown(name: str) -> str:
    """``name`` for a message: on one line whatever it holds, and cut."""
    return legible(name, most=_MOST_SHOWN)


class Names:
    """The names of one package, added one by one; each must be another one where case and accents do not count."""

    def __init__(self) -> None:
        self._spelled: dict[str, str] = {}
        self._files: set[str] = set()

    def add(self, name: str, *, folder: bool = False) -> None:
        """Take one more; ValueError, to complete "PACKAGE ...", where it may not be there."""
        why = why_not(name)
        if why is not None:
            raise ValueError(f"holds '{shown(name)}', a name that {why}")
        is_new = not self._is_known(name, folder)
        parts = name.split("/")
        for end in range(1, len(parts) + 1):
            start = "/".join(parts[:end])
            if end < len(parts) and start in self._files:
                raise ValueError(f"has '{shown(start)}' as a file and as a folder")
            known = self._spelled.setdefault(_folded(start), start)
            if known != start:
                raise ValueError(f"holds '{shown(known)}' and '{shown(start)}', which some systems take for one")
        if not is_new:
            raise ValueError(f"holds '{shown(name)}' twice")
        if not folder:
            self._files.add(name)
        if len(self._spelled) > MOST:
            raise ValueError(f"holds more than {MOST:,} files and folders")

    def _is_known(self, name: str, folder: bool) -> bool:
        """A folder may have been named by a file in it already."""
        return name in self._files or (not folder and _folded(name) in self._spelled)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())

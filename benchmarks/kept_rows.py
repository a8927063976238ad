"""Rows of a long benchmark that are kept as they come, so that one that was ended goes on where it stopped."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.results import keep

Row = dict[str, Any]
_ROOT = Path(__file__).resolve().parents[1]
_NNX = ("exporters", "runtimes", "toolchain")


def code_digest(*folders: Path) -> str:
    """Of nnx's own code and of ``folders``: rows that other code made are no rows of this one."""
    files = [path for name in _NNX for path in sorted((_ROOT / name).rglob("*.py"))]
    files += [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


class KeptRows:
    """The rows of ``path``, by what is under ``key`` in each; ``table`` makes the page beside it.

    Those that another ``code`` made are dropped, unless ``of_any_code``.
    """

    def __init__(
        self, path: Path, key: str, code: str, table: Callable[[list[Row]], str], *, of_any_code: bool = False
    ) -> None:
        self._path, self._key, self._code, self._table = path, key, code, table
        kept: list[Row] = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
        self.rows = [row for row in kept if of_any_code or row["code_digest"] == code]

    @property
    def keys(self) -> set[Any]:
        return {row[self._key] for row in self.rows}

    def add(self, rows: Iterable[Row]) -> None:
        """Also to the file; no infinities, which JSON does not have."""
        for row in rows:
            plain = {name: None if _is_endless(value) else value for name, value in row.items()}
            self.rows.append({**plain, "code_digest": self._code})
        keep(self._path, {"rows": self.rows}, self._table(self.rows))


def _is_endless(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)

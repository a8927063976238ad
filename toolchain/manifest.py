"""``manifest.json``: what each step of a run was made from, so that an unchanged step need not be repeated."""

import contextlib
import hashlib
import json
from pathlib import Path
from types import NoneType
from typing import Any

from filelock import FileLock

from exporters.atomic_file import sha256_of, write_text
from toolchain import regular_file, strict_json
from toolchain.errors import BadUsage

NAME = "manifest.json"
_LOCK = ".manifest.json.lock"
_SCHEMA_VERSION = 1


class Manifest:
    """The record of the steps done in ``folder``; written anew after each, atomically.

    Several commands may record in one folder at once: each adds its step to what the others have left there, under a
    lock. Beside the manifest stays an empty ``.manifest.json.lock``, which means nothing while nobody holds it.

    A step counts as done when its inputs (content hashes, options, versions) have the recorded digest and each of its
    files still has the recorded hash: a file changed by hand, or one missing, is made again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._described: dict[str, str | None] = {}
        self._content = self._read()

    def describe(self, **facts: str | None) -> None:
        """Set facts about the whole folder, such as the recipe."""
        self._described |= facts
        self._content |= facts

    def fact(self, name: str) -> str | None:
        """What :meth:`describe` recorded."""
        value: str | None = self._content.get(name)
        return value

    def inputs(self, step: str) -> dict[str, Any]:
        """What ``step`` was made from, as far as it is recorded."""
        found = self._content["steps"].get(step, {}).get("inputs")
        return found if isinstance(found, dict) else {}

    def done(self, step: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        """The facts recorded for ``step`` if it was done with the same inputs and its files are unchanged."""
        entry = self._content["steps"].get(step)
        if entry is None or entry["inputs_sha256"] != digest(inputs):
            return None
        if not self._unchanged(entry["outputs"]):
            return None
        facts: dict[str, Any] = entry["facts"]
        return facts

    def intact(self, step: str) -> bool:
        """Whether ``step`` was done, with whatever inputs, and its files are still those that it left."""
        entry = self._content["steps"].get(step)
        return entry is not None and self._unchanged(entry["outputs"])

    def record(self, step: str, inputs: dict[str, Any], outputs: list[Path], facts: dict[str, Any]) -> None:
        """``step`` is done."""
        entry = {
            "inputs": inputs,
            "inputs_sha256": digest(inputs),
            "outputs": {path.name: sha256_of(path) for path in outputs},
            "facts": facts,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / _LOCK):
            self._content = {**self._read(), **self._described}
            self._content["steps"][step] = entry
            write_text(self.folder / NAME, json.dumps(self._content, indent=1, sort_keys=True) + "\n")

    def _unchanged(self, outputs: dict[str, str]) -> bool:
        paths = {self.folder / name: sha256 for name, sha256 in outputs.items()}
        return all(path.is_file() and sha256_of(path) == sha256 for path, sha256 in paths.items())

    def _read(self) -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError):
            found = strict_json.parsed(regular_file.read_bytes(self.folder / NAME), infinities=True)
            if _is_manifest(found):
                return found  # type: ignore[no-any-return]
        return {"schema_version": _SCHEMA_VERSION, "steps": {}}  # no manifest, or not one: nothing is reused


def _is_manifest(found: Any) -> bool:
    """Whether it has the form that we write."""
    return (
        isinstance(found, dict)
        and found.get("schema_version") == _SCHEMA_VERSION
        and isinstance(found.get("steps"), dict)
        and all(
            isinstance(step, dict)
            and isinstance(step.get("inputs_sha256"), str)
            and isinstance(step.get("facts"), dict)
            and isinstance(step.get("outputs"), dict)
            and all(isinstance(sha256, str) and Path(name).name == name for name, sha256 in step["outputs"].items())
            for step in found["steps"].values()
        )
        and all(isinstance(found.get(name), (str, NoneType)) for name in ("recipe", "data"))
    )


def digest(inputs: dict[str, Any]) -> str:
    """SHA-256 of the inputs as canonical JSON."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def of_existing(folder: Path) -> Manifest:
    """The manifest of an artifacts folder; raise BadUsage when ``folder`` is none."""
    if not (folder / NAME).is_file():
        raise BadUsage(f"{folder} is not an artifacts folder: it has no {NAME}.", "Make one with `nnx run RECIPE`.")
    return Manifest(folder)

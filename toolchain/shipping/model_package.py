"""ONNX Runtime's part of a package: manifest, component, the models in their folders, weights that several share, once.

Schema 1.0: https://github.com/microsoft/onnxruntime/tree/main/model_package. Keys that it does not know are errors. A
variant names no ``device``: ONNX Runtime 1.31 finds none for its own CPU provider, and would refuse the variant.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporters.atomic_file import sha256_of
from exporters.model_file import ModelFile
from runtimes.ort_session import CPU
from runtimes.session_settings import stored_in
from toolchain.errors import BadUsage
from toolchain.shipping.package import FORMAT, PACKAGE

_ASSETS = "shared_assets"
_MODEL, _ORT = "model.onnx", "model.ort"
_PORTABLE = re.compile(r"[^\x00-\x1f\x7f\\:*?\"<>|]+")
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Where a variant's files lie in the package, and how it is opened; ``asset`` is the URI of shared weights."""

    model: str
    external_data: Mapping[str, str]
    asset: str | None
    session_options: Mapping[str, str]

    @property
    def shared_weights(self) -> str | None:
        """The folder of shared weights."""
        return None if self.asset is None else _folder_of(self.asset)


def write(folder: Path, name: str, version: str, description: str, files: Mapping[str, ModelFile]) -> dict[str, Placed]:
    """Copy ``files``, by variant, the recommended first, and write what ONNX Runtime reads."""
    weights = {variant: _weights(file) for variant, file in files.items()}
    placed = {}
    for variant, file in files.items():
        own = weights[variant]
        shared = bool(own) and sum(other == own for other in weights.values()) > 1
        asset = _uri(own) if shared else None
        place = Path(name, variant)
        inside = Path(_folder_of(asset)) if asset else place
        _copy(file.path, folder / place / _MODEL)
        for relative in own:
            _copy(file.path.parent / relative, folder / inside / relative)
        settings = stored_in(file.path)
        placed[variant] = Placed(
            model=(place / _MODEL).as_posix(),
            external_data={relative: (inside / relative).as_posix() for relative in own},
            asset=asset,
            session_options=settings.config_entries() if settings else {},
        )
    _write_json(folder / name / "component.json", _component(name, placed))
    assets = {each.asset: each.shared_weights for each in placed.values() if each.asset}
    _write_json(
        folder / "manifest.json",
        {
            "schema_version": "1.0",
            "package_name": name,
            "package_version": version,
            "description": description,
            "layout": "portable",
            "components": {name: name},
            **({"shared_assets": assets} if assets else {}),
            "additional_metadata": {"nnx": {"format": FORMAT, "files": PACKAGE}},
        },
    )
    return placed


def _component(name: str, placed: Mapping[str, Placed]) -> dict[str, Any]:
    variants = {}
    for variant, each in placed.items():
        options = dict(each.session_options) | ({_WEIGHTS_FOLDER: each.asset} if each.asset else {})
        ort = {"model_file": _MODEL} | ({"session_options": options} if options else {})
        variants[variant] = {"variant_directory": variant, "ep": CPU, "executor_info": {"ort": ort}}
    return {"component_name": name, "variants": variants}


def _weights(file: ModelFile) -> dict[str, str]:
    """The files that hold its weights, as it calls them, with their SHA-256.

    Raises BadUsage for a name that some file system, or a list of files, does not take as it is.
    """
    found = {path.relative_to(file.path.parent).as_posix(): path for path in file.external_files}
    for name in found:
        alike = sum(other.casefold() == name.casefold() for other in (*found, _MODEL, _ORT))
        if not _PORTABLE.fullmatch(name) or alike > 1:
            raise BadUsage(
                f"{file} keeps weights in a file called {name!r}, which not every device can have beside {_MODEL}.",
                "Write it anew with `nnx convert --external-data always`.",
            )
    return {name: sha256_of(path) for name, path in found.items()}


def _uri(weights: Mapping[str, str]) -> str:
    """As ONNX Runtime names a folder of shared files: by the digests and names of all that is in it."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(weights.items()))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def _folder_of(uri: str) -> str:
    return f"{_ASSETS}/{uri.replace(':', '-')}"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():  # shared weights are copied once
        shutil.copyfile(source, target)


def _write_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n", encoding="utf-8")

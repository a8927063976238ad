"""Whether what a package holds is what a package may hold: its descriptions, and where its models keep their weights.

Looked at after the checksums: these say that a file is as it was sent, this that it was sent in good faith.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

from toolchain import strict_json
from toolchain.shipping import names
from toolchain.shipping.faults import Fault, Kind
from toolchain.shipping.folder import File, read
from toolchain.shipping.package import FORM, PACKAGE

MANIFEST = "manifest.json"
_MOST_JSON_BYTES = 16 * 2**20
"""The largest are a text model's vocabulary and the list of golden values: each a few MB."""
_MOST_MANIFEST_BYTES = 2**20
_COMPONENT = "component.json"
_ASSETS = "shared_assets"
_MOST_SHARED = 32
"""A model may keep its weights in any of them; one is there for each set of weights that several models share."""


def faults(files: Mapping[str, File]) -> list[Fault]:
    """What is unfit in a package of ``files``, name -> file.

    One file is held in memory at a time, and looked at once: a package may hold 10,000.
    """
    found: list[Fault] = []
    if MANIFEST not in files:
        found.append(Fault(kind=Kind.MISSING, file=MANIFEST, why="it says what is in a package"))
    shared = sorted({"/".join(name.split("/")[:2]) for name in files if name.startswith(f"{_ASSETS}/")})
    if len(shared) > _MOST_SHARED:
        found.append(_unfit(_ASSETS, f"it holds more than {_MOST_SHARED} folders"))
    for name, file in files.items():
        if name.endswith(".onnx"):
            found += _of_model(name, file, shared[:_MOST_SHARED])
        elif name.endswith(".json"):
            found += _of_json(name, file, files)
    return found


def _unfit(name: str, why: str) -> Fault:
    return Fault(kind=Kind.UNFIT, file=name, why=why)


def _of_json(name: str, file: File, files: Mapping[str, File]) -> Iterator[Fault]:
    is_manifest, is_component = name == MANIFEST, PurePosixPath(name).name == _COMPONENT
    most = _MOST_MANIFEST_BYTES if is_manifest or is_component else _MOST_JSON_BYTES
    try:
        document = strict_json.parsed(read(file, most_bytes=most))
    except UnicodeDecodeError:
        yield _unfit(name, "it is not UTF-8")
    except json.JSONDecodeError as error:
        yield _unfit(name, f"it is no JSON (line {error.lineno}, column {error.colno})")
    except ValueError as error:
        yield _unfit(name, f"it {str(error).removeprefix('it ')}")
    else:
        if is_manifest:
            yield from _of_manifest(document, files)
        elif is_component:
            yield from _of_component(name, document, files)
        elif name == PACKAGE:
            yield from _of_package(document, files)


def _of_manifest(manifest: Any, files: Mapping[str, File]) -> Iterator[Fault]:
    if (why := _against("manifest", manifest)) is not None:
        yield _unfit(MANIFEST, why)
        return
    components = set(manifest["components"].values())
    for place in sorted({*components, *manifest.get("shared_assets", {}).values()}):
        if (why := _leads_out(place)) is not None:
            yield _unfit(MANIFEST, why)
        elif place in components and f"{place}/{_COMPONENT}" not in files:
            yield _unfit(MANIFEST, f"there is no {names.shown(place)}/{_COMPONENT}")


def _of_component(name: str, component: Any, files: Mapping[str, File]) -> Iterator[Fault]:
    if (why := _against("component", component)) is not None:
        yield _unfit(name, why)
        return
    for variant, facts in component["variants"].items():
        folder = facts.get("variant_directory", variant)
        model = facts.get("executor_info", {}).get("ort", {}).get("model_file")
        places = [folder] if model is None else [folder, f"{folder}/{model}"]
        wrong = next((why for place in places if (why := _leads_out(place)) is not None), None)
        if wrong is not None:
            yield _unfit(name, wrong)
        elif model is not None and f"{PurePosixPath(name).parent}/{folder}/{model}" not in files:
            yield _unfit(name, f"there is no model {names.shown(model)} for its variant '{names.shown(variant)}'")


def _of_package(package: Any, files: Mapping[str, File]) -> Iterator[Fault]:
    """Our own description: its form, that every file which it names is one of the package, and that none leads out.

    What it calls itself, its variants and their weights becomes the name of a file where it is copied.
    """
    try:
        strict_json.check(package, json.loads(FORM.schema_text()))
    except ValueError as error:
        yield _unfit(PACKAGE, str(error))
        return
    called = [package["name"], *(variant["name"] for variant in package["variants"])]
    for name in sorted({name for name in called if "/" in name or names.why_not(name) is not None}):
        yield _unfit(PACKAGE, f"'{names.shown(name)}' is no name of a package or a variant")
    copied = [variant["shared_weights"] for variant in package["variants"] if variant["shared_weights"] is not None]
    copied += [weights for variant in package["variants"] for weights in variant["external_data"]]
    for place in sorted(set(copied)):
        if (why := _leads_out(place)) is not None:
            yield _unfit(PACKAGE, why)
    named = [package[key] for key in ("golden", "preprocessing", "labels", "rows", "required_operators")]
    for variant in package["variants"]:
        named += [variant["model"], variant["ort_file"], *variant["external_data"].values()]
    for place in sorted({place for place in named if place is not None}):
        if (why := _leads_out(place)) is not None:
            yield _unfit(PACKAGE, why)
        elif place not in files:
            yield _unfit(PACKAGE, f"there is no {names.shown(place)}")


def _leads_out(place: str) -> str | None:
    why = names.why_not(place)
    return None if why is None else f"it names '{names.shown(place)}', a place that {why}"


def _against(definition: str, value: Any) -> str | None:
    try:
        strict_json.check(value, {**_schema(), "$ref": f"#/$defs/{definition}"})
    except ValueError as error:
        return str(error)
    return None


@cache
def _schema() -> dict[str, Any]:
    text = (resources.files("toolchain.shipping") / "ort_package.schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def _of_model(name: str, file: File, shared: Sequence[str]) -> Iterator[Fault]:
    """Weights beside it that lie neither in its folder nor, all of them, in one of those that are ``shared``."""
    from google.protobuf.message import DecodeError

    from exporters import external_data, one_file

    try:
        model = one_file.load(file.path)
    except DecodeError:
        yield _unfit(name, "it is no ONNX model")
        return
    root = file.path.parents[name.count("/")]
    first: external_data.Unreadable | None = None
    for place in (file.path, *(root / folder / file.path.name for folder in shared)):
        pieces = external_data.pieces_or_faults(model, place)
        unreadable = next((piece for piece in pieces if isinstance(piece, external_data.Unreadable)), None)
        if unreadable is None:
            return
        first = first or unreadable
    if first is not None:
        yield _unfit(name, f"its weight '{names.shown(first.tensor)}' does not lie in the package as it says")

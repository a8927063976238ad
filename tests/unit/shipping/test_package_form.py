"""A package that is as it was sent is still read as a stranger's: descriptions, and where weights lie."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from benchmarks.hard import base_package
from toolchain.shipping import verification

Change = Callable[[Any], object]


def faults(package: Path) -> list[tuple[str, str, str]]:
    """After the checksums were made anew, as whoever sends it would."""
    base_package.write_checksums(package)
    return [(str(fault.kind), fault.file, fault.why) for fault in verification.verify(package).faults]


def test_a_good_package_has_none(package: Path) -> None:
    assert faults(package) == []


def _variant(change: Change) -> Change:
    return lambda told: change(told["variants"]["fp32"])


def _ort(**changed: Any) -> Change:
    return _variant(lambda variant: variant["executor_info"]["ort"].update(changed))


UNFIT: dict[str, tuple[str, Change, str]] = {
    "another version": ("manifest.json", lambda told: told.update(schema_version="2.0"), "schema_version"),
    "an unknown key": ("manifest.json", lambda told: told.update(run_me="x"), "run_me is not known"),
    "not portable": ("manifest.json", lambda told: told.update(layout="installed"), "layout"),
    "no components": ("manifest.json", lambda told: told.pop("components"), "components is missing"),
    "a component elsewhere": ("manifest.json", lambda told: told["components"].update(a="../a"), "leads out"),
    "an absolute component": ("manifest.json", lambda told: told["components"].update(a="/etc"), "absolute"),
    "a component that is not there": ("manifest.json", lambda told: told["components"].update(a="b"), "no b/component"),
    "an asset elsewhere": (
        "manifest.json", lambda told: told["shared_assets"].update({f"sha256:{'0' * 64}": "../x"}), "leads out",
    ),
    "an asset of another kind": ("manifest.json", lambda told: told["shared_assets"].update(a="b"), "shared_assets"),
    "a component's unknown key": ("small/component.json", lambda told: told.update(x=1), "x is not known"),
    "a variant's unknown key": ("small/component.json", _variant(lambda told: told.update(x=1)), "x is not known"),
    "a list of variants": ("small/component.json", lambda told: told.update(variants=[]), "variants"),
    "a variant elsewhere": (
        "small/component.json", _variant(lambda told: told.update(variant_directory="../../..")), "leads out",
    ),
    "a model elsewhere": ("small/component.json", _ort(model_file="../../../m.onnx"), "leads out"),
    "a model that is not there": ("small/component.json", _ort(model_file="m.onnx"), "no model m.onnx"),
    "settings that are no text": ("small/component.json", _ort(session_options={"a": 1}), "session_options"),
    "our unknown key": ("nnx/package.json", lambda told: told.update(run_me="x"), "run_me is not known"),
    "another format": ("nnx/package.json", lambda told: told.update(format=2), "format is 2"),
    "a package called elsewhere": ("nnx/package.json", lambda told: told.update(name="../x"), "is no name"),
    "a package called nothing": ("nnx/package.json", lambda told: told.update(name=""), "is no name"),
    "a variant called elsewhere": (
        "nnx/package.json", lambda told: told["variants"][0].update(name="a/b"), "is no name of a package or a variant",
    ),
    "weights called elsewhere": (
        "nnx/package.json", lambda told: told["variants"][0].update(external_data={"../a": "README.md"}), "leads out",
    ),
    "shared weights elsewhere": (
        "nnx/package.json", lambda told: told["variants"][0].update(shared_weights="../.."), "leads out",
    ),
    "golden values elsewhere": ("nnx/package.json", lambda told: told.update(golden="../golden.json"), "leads out"),
    "labels that are not there": ("nnx/package.json", lambda told: told.update(labels="a.json"), "no a.json"),
    "weights elsewhere": (
        "nnx/package.json", lambda told: told["variants"][0].update(external_data={"a": "/etc/passwd"}), "absolute",
    ),
    "ONNX Runtime's unknown key": ("small/component.json", _ort(library="evil.so"), "library is not known"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_a_description_of_another_form_is_named(name: str, package: Path) -> None:
    file, change, why = UNFIT[name]
    document = json.loads((package / file).read_text())
    change(document)
    (package / file).write_text(json.dumps(document))
    ((kind, where, told),) = faults(package)
    assert (kind, where) == ("unfit", file)
    assert why in told


@pytest.mark.parametrize("file", ["manifest.json", "small/component.json", "nnx/package.json", "nnx/golden.json"])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"a": NaN}', "it holds NaN"),
        (b'{"a": Infinity}', "it holds Infinity"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' * 100_000, "nested too deeply"),
        (b"{", "it is no JSON"),
        (b'{"a": "\xff"}', "it is not UTF-8"),
        (b"1" * 5000, "it "),
        (b" " * (17 << 20), "it has more than"),
    ],
)
def test_json_that_others_read_otherwise_is_named(file: str, content: bytes, why: str, package: Path) -> None:
    (package / file).write_bytes(content)
    told = faults(package)
    assert told[0][:2] == ("unfit", file)
    assert told[0][2].startswith(why) or why in told[0][2]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("location", "/etc/passwd"),
        ("location", "../../README.md"),
        ("location", "../../../outside.data"),
        ("location", "none.data"),
        ("location", ""),
        ("offset", "100000"),
        ("length", "99999999999"),
        ("length", "-1"),
    ],
)
@pytest.mark.parametrize("variant", ["fp32", "shared"])
def test_weights_outside_the_package_are_named(key: str, value: str, variant: str, package: Path) -> None:
    (package.parent / "outside.data").write_bytes(bytes(1024))
    path = package / "small" / variant / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == key:
            entry.value = value
    onnx.save(model, path)
    ((kind, where, told),) = faults(package)
    assert (kind, where) == ("unfit", f"small/{variant}/model.onnx")
    assert told == "its weight 'w' does not lie in the package as it says"


@pytest.mark.parametrize("content", [b"text", b"\x3a\x7f" * 100])
def test_a_model_that_is_none_is_named(content: bytes, package: Path) -> None:
    (package / "small/fp32/model.onnx").write_bytes(content)
    assert faults(package) == [("unfit", "small/fp32/model.onnx", "it is no ONNX model")]


def test_without_a_manifest_it_is_no_whole_package(package: Path) -> None:
    (package / "manifest.json").unlink()
    assert [fault[:2] for fault in faults(package)] == [("missing", "manifest.json")]


def test_so_many_shared_folders_are_no_package_s(package: Path) -> None:
    for number in range(32):
        (package / "shared_assets" / f"x{number}").mkdir()
        (package / "shared_assets" / f"x{number}" / "data").touch()
    assert faults(package) == [("unfit", "shared_assets", "it holds more than 32 folders")]


def test_a_package_of_many_models_and_components_is_looked_through_in_seconds(package: Path) -> None:
    """Each of them once, whatever the manifest says of them."""
    model = (package / "small/shared/model.onnx").read_bytes()
    component = json.loads((package / "small/component.json").read_text())
    manifest = json.loads((package / "manifest.json").read_text())
    manifest["components"] = {str(number): "small" for number in range(20_000)}
    (package / "manifest.json").write_text(json.dumps(manifest))
    component["variants"] |= {str(number): component["variants"]["fp32"] for number in range(1_000)}
    (package / "small/component.json").write_text(json.dumps(component))
    for number in range(1_000):
        (package / "small" / str(number)).mkdir()
        (package / "small" / str(number) / "model.onnx").write_bytes(model)
    started = time.monotonic()
    assert faults(package) == []
    assert time.monotonic() - started < 60

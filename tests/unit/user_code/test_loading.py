"""Ways to lay out code: each says what ``make()`` returns once its neighbours are found, and nothing else is."""

import importlib
import sys
import types
from pathlib import Path

import pytest

from toolchain.errors import BadUsage
from toolchain.user_code import loading

USES = "from {} import width\ndef make():\n    return width\n"
LATE = "def make():\n    from {} import width\n    return width\n"
WIDTH = "width = 7\n"

LAYOUTS = {
    "a file alone": ({"net.py": "def make():\n    return 7\n"}, "net.py"),
    "a neighbour": ({"net.py": USES.format("blocks"), "blocks.py": WIDTH}, "net.py"),
    "a neighbour imported late": ({"net.py": LATE.format("blocks"), "blocks.py": WIDTH}, "net.py"),
    "a neighbour of a neighbour, late": (
        {"net.py": USES.replace("width\ndef", "get\ndef").replace("return width", "return get()").format("blocks"),
         "blocks.py": "def get():\n    import sizes\n    return sizes.width\n", "sizes.py": WIDTH},
        "net.py",
    ),
    "importlib": ({"net.py": "import importlib\ndef make():\n    return importlib.import_module('blocks').width\n",
                   "blocks.py": WIDTH}, "net.py"),
    "a circle": ({"net.py": "import blocks\nwidth = 7\ndef make():\n    return blocks.get()\n",
                  "blocks.py": "import net\ndef get():\n    return net.width\n"}, "net.py"),
    "a package": ({"pkg/__init__.py": "", "pkg/net.py": USES.format(".blocks"), "pkg/blocks.py": WIDTH}, "pkg/net.py"),
    "a package, by its own name": (
        {"pkg/__init__.py": "", "pkg/net.py": USES.format("pkg.blocks"), "pkg/blocks.py": WIDTH}, "pkg/net.py"),
    "a package in a package": (
        {"pkg/__init__.py": "", "pkg/nets/__init__.py": "", "pkg/nets/net.py": USES.format("..blocks"),
         "pkg/blocks.py": WIDTH}, "pkg/nets/net.py"),
    "relative imports without __init__.py": (
        {"pkg/net.py": USES.format(".blocks"), "pkg/blocks.py": WIDTH}, "pkg/net.py"),
    "two levels without __init__.py": (
        {"pkg/nets/net.py": USES.format("..blocks"), "pkg/blocks.py": WIDTH}, "pkg/nets/net.py"),
    "relative and late": (
        {"pkg/__init__.py": "", "pkg/net.py": LATE.format(".blocks"), "pkg/blocks.py": WIDTH}, "pkg/net.py"),
    "a package's __init__.py": (
        {"pkg/__init__.py": USES.format(".blocks"), "pkg/blocks.py": WIDTH}, "pkg/__init__.py"),
    "neighbours as a script in a package": (
        {"pkg/__init__.py": "", "pkg/net.py": USES.format("blocks"), "pkg/blocks.py": WIDTH}, "pkg/net.py"),
    "a package whose __init__.py asks for what is not here": (
        {"pkg/__init__.py": "import not_installed_anywhere\n", "pkg/net.py": USES.format("blocks"),
         "pkg/blocks.py": WIDTH}, "pkg/net.py"),
    "a package beside the file": (
        {"net.py": USES.format("layers.blocks"), "layers/__init__.py": "", "layers/blocks.py": WIDTH}, "net.py"),
    "a package without __init__.py beside the file": (
        {"net.py": USES.format("layers.blocks"), "layers/blocks.py": WIDTH}, "net.py"),
    "from the project's root": (
        {"pyproject.toml": "", "nets/net.py": USES.format("layers.blocks"), "layers/blocks.py": WIDTH}, "nets/net.py"),
    "from the project's src": (
        {"pyproject.toml": "", "tools/net.py": USES.format("layers.blocks"), "src/layers/__init__.py": "",
         "src/layers/blocks.py": WIDTH}, "tools/net.py"),
    "a hyphen": ({"my-net.py": USES.format("blocks"), "blocks.py": WIDTH}, "my-net.py"),
    "full stops": ({"net.v2.py": USES.format("blocks"), "blocks.py": WIDTH}, "net.v2.py"),
    "a digit": ({"2net.py": USES.format("blocks"), "blocks.py": WIDTH}, "2net.py"),
    "spaces in the folder": ({"my nets/net.py": USES.format("blocks"), "my nets/blocks.py": WIDTH}, "my nets/net.py"),
    "a name of the standard library": ({"net.py": USES.format("types"), "types.py": WIDTH}, "net.py"),
    "a name of it, used as a module": (
        {"net.py": "import types\ndef make():\n    return types.width\n", "types.py": WIDTH}, "net.py"),
    "the standard library's own": (
        {"net.py": "import types\ndef make():\n    return types.SimpleNamespace(width=7).width\n",
         "types.py": "width = 0\n"}, "net.py"),
    "both": (
        {"net.py": "import queue\nfrom statistics import mean\ndef make():\n    queue.Queue()\n    return mean([7])\n",
         "statistics.py": "width = 0\n"}, "net.py"),
    "a name of nnx": ({"net.py": USES.format("toolchain"), "toolchain.py": WIDTH}, "net.py"),
    "a package with a name of nnx": (
        {"net.py": USES.format("exporters.half"), "exporters/__init__.py": "", "exporters/half.py": WIDTH}, "net.py"),
    "import package.module": (
        {"net.py": "import exporters.half\ndef make():\n    return exporters.half.width\n",
         "exporters/__init__.py": "", "exporters/half.py": "from exporters.sizes import width\n",
         "exporters/sizes.py": WIDTH}, "net.py"),
    "an installed name": ({"net.py": USES.format("yaml"), "yaml.py": WIDTH}, "net.py"),
    "a file of an installed name": (
        {"numpy.py": "import numpy\ndef make():\n    return int(numpy.full(1, 7)[0])\n"}, "numpy.py"),
    "a package's module of an installed name": (
        {"pkg/__init__.py": "", "pkg/numpy.py": WIDTH,
         "pkg/net.py": "import numpy\nfrom .numpy import width\ndef make():\n    return int(numpy.full(1, 7)[0])\n"},
        "pkg/net.py"),
    "a folder of an installed name": ({"net.py": "import numpy\ndef make():\n    return int(numpy.full(1, 7)[0])\n",
                                       "numpy/data.txt": ""}, "net.py"),
    "a dataclass": (
        {"net.py": "from __future__ import annotations\nfrom dataclasses import dataclass\n"
                   "@dataclass\nclass Config:\n    width: int = 7\nmake = lambda: Config().width\n"}, "net.py"),
    "what is for scripts": ({"net.py": "def make():\n    return 7\nif __name__ == '__main__':\n    raise SystemExit\n"},
                            "net.py"),
}  # fmt: skip


def laid(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(("files", "name"), LAYOUTS.values(), ids=LAYOUTS)
def test_a_layout(files: dict[str, str], name: str, tmp_path: Path) -> None:
    before, path = dict(sys.modules), list(sys.path)
    module = loading.loaded(str(laid(tmp_path, files) / name))
    assert module.make() == 7
    assert sys.path == path
    assert all(sys.modules[known] is module for known, module in before.items())
    digested = {file.relative_to(tmp_path).as_posix() for file in loading.files(str(tmp_path / name))}
    assert name in digested
    reached = {file for file, text in files.items() if text == WIDTH}
    assert reached <= digested or "importlib" in files[name]


def test_nobody_else_sees_a_neighbour(tmp_path: Path) -> None:
    laid(tmp_path, {"net.py": USES.format("only_theirs"), "only_theirs.py": WIDTH, "other_of_theirs.py": WIDTH})
    loading.loaded(str(tmp_path / "net.py"))
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("other_of_theirs")
    assert importlib.import_module("types") is types


def test_two_projects_have_neighbours_of_one_name(tmp_path: Path) -> None:
    for width in (7, 8):
        folder = laid(tmp_path / str(width), {"net.py": LATE.format("blocks"), "blocks.py": f"width = {width}\n"})
        assert loading.loaded(str(folder / "net.py")).make() == width


@pytest.mark.parametrize("name", ["pkg", "pkg.net", "pkg.nets.small"])
def test_a_module(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use = "from pkg.blocks import make\n"
    files = {"pkg/__init__.py": use, "pkg/net.py": use, "pkg/nets/small.py": "from ..blocks import make\n"}
    monkeypatch.chdir(laid(tmp_path, {**files, "pkg/blocks.py": "def make():\n    return 7\n"}))
    assert loading.loaded(name).make() == 7
    place = loading.absolute(name)
    monkeypatch.chdir("/")
    assert loading.loaded(place).make() == 7


def test_an_installed_module() -> None:
    assert loading.loaded("json.decoder").JSONDecoder is not None
    assert loading.absolute("json.decoder") == "json.decoder"


@pytest.mark.parametrize(
    ("place", "files", "what"),
    [
        ("net.py", {}, "There is no file"),
        ("net.py", {"net.py": "def make(:\n"}, "SyntaxError"),
        ("net.py", {"net.py": "import argparse\nargparse.ArgumentParser().parse_args(['x'])\n"}, "SystemExit"),
        ("net.py", {"net.py": "import not_here_at_all\n"}, "No module named 'not_here_at_all'"),
        ("net.py", {"net.py": "from .blocks import width\n"}, "blocks"),
        ("net.py", {"net.py": b"\xff\xfe"}, "could not be loaded"),
        ("pkg.net", {}, "No module named 'pkg'"),
        ("pkg.net", {"pkg/other.py": ""}, "No module named 'pkg.net'"),
        ("pkg", {"pkg/other.py": ""}, "is a folder"),
    ],
)
def test_what_is_not_there_or_raises(
    place: str, files: dict[str, str | bytes], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadUsage) as caught:
        loading.loaded(place)
    assert what in caught.value.what

"""The flow of imports, and the names and sizes of files."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("toolchain", "exporters", "runtimes")
ALLOWED = {"toolchain": {"toolchain", "exporters", "runtimes"}, "exporters": {"exporters"}, "runtimes": {"runtimes"}}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
FILES = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, *, top_level_only: bool) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = _top_level(tree) if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in PACKAGES}


def _top_level(tree: ast.Module) -> list[ast.stmt]:
    """Statements that run on import: not those inside functions or under TYPE_CHECKING."""
    return [node for node in tree.body if not isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.If))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_of(path))
def test_packages_import_only_in_the_allowed_direction(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    wrong = {name for name in imports_of(path, top_level_only=False) if name.split(".")[0] not in ALLOWED[own]}
    assert not wrong


def test_there_is_no_cycle() -> None:
    modules = {module_of(path): path for path in FILES}
    edges = {name: imports_of(path, top_level_only=True) & set(modules) - {name} for name, path in modules.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name in done:
            return
        for target in edges[name]:
            if not name.startswith(target + "."):  # a package's __init__ stands above its own modules
                visit(target, (*trail, name))
        done.add(name)

    for name in edges:
        visit(name, ())


def test_toolchain_core_does_not_import_the_commands() -> None:
    for path in (ROOT / "toolchain").glob("*.py"):
        if path.name != "__main__.py":
            assert not any(name.startswith("toolchain.cli") for name in imports_of(path, top_level_only=False)), path


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_of(path))
def test_files_are_named_for_a_thing_and_fit_a_mind(path: Path) -> None:
    assert path.stem not in FORBIDDEN_NAMES
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_packages_are_listed_for_the_build() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for folder in {path.parent for path in FILES}:
        assert f'"{".".join(folder.relative_to(ROOT).parts)}"' in text
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").exists()

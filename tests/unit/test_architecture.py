"""The flow of imports from room to room, and the names and sizes of files."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("toolchain", "exporters", "runtimes")
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
RUNNERS = ROOT / "toolchain" / "shipping" / "runners"  # data, whatever its language: never imported
FILES = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if RUNNERS not in path.parents]

# Each room, and below it those that it may import from; what stands in a package's own folder counts as single rooms.
# A room may use all that stands further down, so the table is an order and no arrow can lead back up.
FLOORS: dict[str, tuple[tuple[str, ...], ...]] = {
    "toolchain": (
        ("__main__",),
        ("cli",),
        ("pipeline",),
        ("run_report", "html_report"),
        ("steps",),
        ("hosts", "serving"),
        ("bisection", "shipping"),
        ("conversion", "ablation", "doctor"),
        ("inspection",),
        ("bench", "layers"),
        ("training", "inputs"),
        ("recipe",),
        ("recipes",),
        ("processes",),
        ("datasets", "accuracy", "user_code"),
        ("records",),
        ("manifest", "folder_lock", "console", "stats"),
        ("machine", "artifacts_folder", "strict_json", "progress", "streams", "legible", "regular_file"),
        ("memory_budget",),
        ("errors",),
    ),
    "exporters": (
        ("int8", "half", "int4", "torch_onnx", "edits", "simplify"),
        (
            "calibration",
            "finish",
            "torch_guards",
            "torch_rungs",
            "embeddings",
            "products",
            "rounding",
            "blocks",
            "float_io",
        ),
        ("torch_module", "torch_origin", "torch_weights", "artifact", "weights"),
        ("model_file",),
        ("feeds",),
        ("batch_axes",),
        ("versions",),
        ("cleaning", "onnx_file", "provenance", "library_output"),
        ("folding", "widening", "finite", "endless_loops"),
        ("skeleton",),
        ("external_data", "element_types"),
        ("one_file",),
        ("large_weights",),
        ("tensors",),
        ("atomic_file", "temporary_folder", "processors", "norms", "operators", "symbolic_shapes"),
        ("input_tree",),
        ("transformers_rung",),
        ("recurrent_shapes", "transformers_recurrences"),
        ("errors", "control_groups", "file_lock", "whose_file", "replaced"),
    ),
}
OTHER_PACKAGES = {"toolchain": {"exporters", "runtimes"}, "exporters": set[str](), "runtimes": set[str]()}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imports_of(path: Path, *, top_level_only: bool) -> set[str]:
    """The modules of ours that a file imports, wherever it does or only when it is loaded."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = _top_level(tree) if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= inside or {node.module}
    return {name for name in found if name.split(".")[0] in PACKAGES}


def _top_level(tree: ast.Module) -> list[ast.stmt]:
    """Statements that run on import: not those inside functions or under TYPE_CHECKING."""
    return [node for node in tree.body if not isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.If))]


def room_of(module: str) -> str:
    """The folder of a module, or itself where it stands in the package's own; empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def floor_of(package: str, room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS[package]) if room in rooms)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_packages_import_only_in_the_allowed_direction(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    others = {name.split(".")[0] for name in imports_of(path, top_level_only=False)} - {own}
    assert others <= OTHER_PACKAGES[own]


@pytest.mark.parametrize("path", [path for path in FILES if "." in module_of(path)], ids=module_of)
def test_rooms_import_only_from_the_floors_below(path: Path) -> None:
    """Recursively, in functions too; so there is no circle between rooms either."""
    package, room = path.relative_to(ROOT).parts[0], room_of(module_of(path))
    if package not in FLOORS:
        return
    used = {room_of(name) for name in imports_of(path, top_level_only=False) if name.split(".")[0] == package}
    wrong = {other for other in used - {room, ""} if floor_of(package, other) <= floor_of(package, room)}
    assert not wrong


def test_every_room_has_its_floor() -> None:
    for package, floors in FLOORS.items():
        rooms = {room_of(name) for name in MODULES if name.startswith(f"{package}.")}
        listed = [room for floor in floors for room in floor]
        assert sorted(rooms) == sorted(listed)


def test_there_is_no_cycle_between_modules() -> None:
    edges = {name: imports_of(path, top_level_only=True) & set(MODULES) - {name} for name, path in MODULES.items()}
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


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_files_are_named_for_a_thing_and_fit_a_mind(path: Path) -> None:
    assert path.stem not in FORBIDDEN_NAMES
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"], ids=module_of)
def test_every_room_has_a_map_and_no_logic(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    if module_of(path) != "toolchain.cli":  # the entry of the command line, which must load nothing else first
        assert not any(isinstance(node, (ast.FunctionDef, ast.ClassDef)) for node in tree.body)


def test_packages_are_listed_for_the_build() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted({".".join(path.parent.relative_to(ROOT).parts) for path in FILES})
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").exists()


def test_data_files_are_listed_for_the_build() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    data = {
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path not in FILES
    }
    assert data == {ROOT / package.replace(".", "/") / name for package, names in listed.items() for name in names}

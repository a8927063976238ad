"""What stands in a Python file, read without running it: what it imports, what it uses of that, what it defines."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """The dotted names that the file may import, wherever in it, with their levels: 0 absolute, 1 beside it, ..."""
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((".".join(filter(None, (node.module, alias.name))), node.level) for alias in node.names)


def taken_from(path: Path, module: str) -> set[str]:
    """The names that the file uses of the top-level ``module``: ``from module import NAME``, and ``module.NAME``."""
    names: set[str] = set()
    known_as: set[str] = set()
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module == module:
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            known_as |= {alias.asname or alias.name for alias in node.names if alias.name == module}
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known_as:
            names.add(node.attr)
    return names


def defined(path: Path) -> set[str]:
    """The names that the file binds."""
    return {name for node in ast.walk(_parsed(path)) for name in _bound(node)}


def files(path: Path, folders: Sequence[Path]) -> list[Path]:
    """``path`` and every file that it imports from beside it or from ``folders``, and those that they import."""
    found: dict[Path, None] = {}
    todo = [path]
    while todo:
        file = todo.pop()
        if file in found:
            continue
        found[file] = None
        for name, level in imported(file):
            todo += _files_of(name, [file.parents[level - 1]] if 0 < level <= len(file.parents) else folders)
    return sorted(found)


def _files_of(name: str, folders: Sequence[Path]) -> list[Path]:
    """The files of a dotted name and of the packages that it lies in, from the first folder that has any."""
    for folder in folders:
        found = []
        for part in name.split("."):
            folder = folder / part
            found += [file for file in (folder / "__init__.py", folder.with_name(f"{part}.py")) if file.is_file()][:1]
            if not folder.is_dir():
                break
        if found:
            return found
    return []


def _parsed(path: Path) -> ast.Module:
    """The syntax tree; an empty one for what is not Python, which says so when it is run."""
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module(body=[], type_ignores=[])


def _bound(node: ast.AST) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.alias):
        yield node.asname or node.name.partition(".")[0]

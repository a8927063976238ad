"""What a class needs of the user's files, cut out of them as they wrote it."""

import ast
import functools
import symtable
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from exporters.whose_file import is_installed


class NotDescribable(Exception):
    """Something is not to be written as Python; the message says what."""


def is_theirs(module: str) -> bool:
    """Whether the module of that name is a file of the user's, not one that was installed."""
    found = sys.modules.get(module)
    file = getattr(found, "__file__", None)
    return file is not None and not is_installed(file)


class Cut:
    """The statements that classes and functions of the user's files want, and the imports of what is installed."""

    def __init__(self) -> None:
        self.imports: dict[str, None] = {}
        self.statements: list[str] = []
        self._from: dict[str, str] = {}
        self._seen: set[tuple[str, int]] = set()

    def add(self, module: str, name: str) -> None:
        """Add what binds ``name`` at the top of a user's module, after all that it wants itself.

        Raises NotDescribable where that cannot be seen by reading.
        """
        file = sys.modules[module]
        if self._from.setdefault(name, module) != module:
            raise NotDescribable(f"two files have a '{name}'")
        found = [statement for statement in _statements(str(file.__file__)) if name in _binds(statement)]
        if not found:
            raise NotDescribable(f"'{name}' is not bound at the top of {Path(str(file.__file__)).name}")
        for statement in found:
            if (module, statement.lineno) in self._seen:
                continue
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                self._add_import(file, statement, name)
                continue
            self._seen.add((module, statement.lineno))
            tops = {bound for each in _statements(str(file.__file__)) for bound in _binds(each)}
            for wanted in _reads(statement):
                if wanted in tops and wanted not in _binds(statement):
                    self.add(module, wanted)
            self.statements.append(_text(str(file.__file__), statement))

    def _add_import(self, module: ModuleType, statement: ast.Import | ast.ImportFrom, name: str) -> None:
        """Of an import the one ``name``: as it stands where it is installed, else what it leads to."""
        alias = next(each for each in statement.names if (each.asname or each.name.partition(".")[0]) == name)
        value = vars(module).get(name)
        if isinstance(value, ModuleType):
            if is_theirs(value.__name__):
                raise NotDescribable(f"the module {name} of theirs is used by its name")
            self.imports[ast.unparse(_only(statement, alias))] = None
            return
        if isinstance(statement, ast.ImportFrom) and (source := _of_theirs(statement, value, alias.name)):
            self.add(source, alias.name)
            if alias.asname:
                self.statements.append(f"{alias.asname} = {alias.name}")
            return
        self.imports[ast.unparse(_only(statement, alias))] = None


def _only(statement: ast.Import | ast.ImportFrom, alias: ast.alias) -> ast.stmt:
    if isinstance(statement, ast.Import):
        return ast.Import(names=[alias])
    return ast.ImportFrom(module=statement.module, names=[alias], level=statement.level)


def _of_theirs(statement: ast.ImportFrom, value: Any, name: str) -> str | None:
    """The module of the user's from which a name is imported; None where it is an installed one."""
    last = (statement.module or "").rpartition(".")[2]
    for module, found in list(sys.modules.items()):
        if module.rpartition(".")[2] == last and is_theirs(module) and vars(found).get(name) is value:
            return module
    if statement.level:
        raise NotDescribable(f"'{name}' comes from where it cannot be followed")
    return None


@functools.cache
def _statements(file: str) -> list[ast.stmt]:
    """What stands at the top of a file and is done wherever it is imported."""
    try:
        body = ast.parse(Path(file).read_bytes()).body
    except (OSError, SyntaxError, ValueError) as error:
        raise NotDescribable(f"{Path(file).name} cannot be read") from error
    return [statement for statement in body if not _asks_who_runs_it(statement)]


def _asks_who_runs_it(statement: ast.stmt) -> bool:
    """Whether there is an ``if __name__ == ...`` in it: the file that is written is run, theirs was imported."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return False
    tests = [node.test for node in _outside_functions(statement) if isinstance(node, ast.If)]
    return any(isinstance(node, ast.Name) and node.id == "__name__" for test in tests for node in ast.walk(test))


def _text(file: str, statement: ast.stmt) -> str:
    with tokenize.open(file) as source:  # in the file's own encoding, as ast reads it
        lines = source.read().split("\n")  # and not at a form feed, at which ast counts no line
    first = min([statement.lineno, *(each.lineno for each in getattr(statement, "decorator_list", []))])
    return "\n".join(lines[first - 1 : statement.end_lineno])


def _binds(statement: ast.stmt) -> set[str]:
    """The names that a statement at the top of a file binds there."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return {each.asname or each.name.partition(".")[0] for each in statement.names}
    found = {node.id for node in _outside_functions(statement) if _is_stored(node)}
    inner = [node for node in _outside_functions(statement) if isinstance(node, ast.stmt) and node is not statement]
    return found.union(*(_binds(each) for each in inner if hasattr(each, "name") or hasattr(each, "names")))


def _is_stored(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def _outside_functions(node: ast.AST) -> Iterator[Any]:
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            yield child
        else:
            yield from _outside_functions(child)


def _reads(statement: ast.stmt) -> list[str]:
    """The names that a statement may take from the top of its file, in order."""
    return list(dict.fromkeys(_free(symtable.symtable(ast.unparse(statement), "<statement>", "exec"))))


def _free(table: symtable.SymbolTable) -> Iterator[str]:
    # a function's own names hide those at the top; a class's body reads the top until it has bound the name itself
    falls_through = table.get_type() in ("module", "class")
    for symbol in table.get_symbols():
        if symbol.is_global() or (falls_through and symbol.is_referenced()):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from _free(inner)

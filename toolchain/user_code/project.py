"""A user's project as Python's imports see it: its files find each other, and nobody else finds them by accident.

A name that is theirs and somebody else's too (``types``, ``utils``, ``toolchain``) means theirs where their code
imports it and the other everywhere else: their modules have an ``__import__`` of their own.
"""

import builtins
import functools
import importlib
import importlib.util
import itertools
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from toolchain.user_code import written
from toolchain.user_code.layout import Layout, on_path

_import = builtins.__import__
_numbers = itertools.count(1)


class Project:
    """The files that belong together with one that the user named."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.alias = f"nnx_user_{next(_numbers)}"
        """The package in which modules live whose own names are somebody else's too."""
        self._builtins = {**vars(builtins), "__import__": self._imported}
        package = ModuleType(self.alias)
        package.__path__ = self._folders = [str(folder) for folder in (layout.first, *layout.then)]
        sys.modules[self.alias] = package
        _by_builtins[id(self._builtins)] = self
        _owners[self.alias] = self
        if not any(isinstance(finder, _Inner) for finder in sys.meta_path):
            sys.meta_path.insert(0, _Inner())
            sys.meta_path.append(_Last())

    def load(self) -> ModuleType:
        """The module that the user named. Raises whatever its code raises."""
        name = self._name_of(self.layout.module, None) or self.layout.module
        # evaluated as code of theirs would be
        theirs = {"__builtins__": self._builtins, "load": importlib.import_module, "name": name}
        module: ModuleType = eval("load(name)", theirs)
        return module

    def load_file(self, path: Path) -> ModuleType:
        """``path`` as a module whatever its name, such as ``model.v2.py``."""
        name = f"{self.alias}.{path.stem.replace('.', '_')}"
        spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(self, name, str(path)))
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # torch.export and torch.compile look a class's module up by name
        assert spec.loader is not None
        spec.loader.exec_module(module)
        return module

    def found(self, name: str, folders: Sequence[str] | None = None) -> ModuleSpec | None:
        """``name`` in ``folders`` or the project's, with a loader that makes it a module of theirs."""
        spec = PathFinder.find_spec(name, folders or self._folders)
        if spec is not None:
            _owners[name] = self
            if isinstance(spec.loader, SourceFileLoader):
                spec.loader = _Loader(self, spec.loader.name, spec.loader.path)
        return spec

    def own(self, module: ModuleType) -> None:
        """Give ``module`` an ``__import__`` that knows the project."""
        module.__dict__["__builtins__"] = self._builtins

    def _imported(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> Any:
        """``__import__`` of the user's modules, which calls it with these names."""
        file = (globals or {}).get("__file__")
        renamed = None if level else self._name_of(name, Path(file) if file else None)
        if renamed is None:
            return _import(name, globals, locals, fromlist, level)
        module = _import(renamed, globals, locals, fromlist or ("__name__",), 0)
        return module if fromlist else sys.modules[f"{self.alias}.{name.partition('.')[0]}"]

    def _name_of(self, name: str, importer: Path | None) -> str | None:
        """The name by which a module of theirs goes that cannot have its own; None for any other."""
        top = name.partition(".")[0]
        if top in sys.modules and _owners.get(top, self) is not self:
            return f"{self.alias}.{name}"
        own = self._own(top)
        if own is None or self._is_free(top, own) or (importer is not None and not self._is_meant(top, own, importer)):
            return None
        return f"{self.alias}.{name}"

    @functools.cache  # noqa: B019 - a project lives as long as the process
    def _own(self, top: str) -> Path | None:
        """The file of theirs that ``top`` is; a folder without ``__init__.py`` comes after what is installed."""
        if on_path(self.layout.first):
            return None
        spec = PathFinder.find_spec(top, [str(self.layout.first)])
        return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None

    @functools.cache  # noqa: B019
    def _is_free(self, top: str, own: Path) -> bool:
        """Whether nobody else has a module of this name."""
        if top in sys.modules:
            return getattr(sys.modules[top], "__file__", None) == str(own)
        others = (finder for finder in sys.meta_path if not isinstance(finder, (_Inner, _Last)))
        specs = (finder.find_spec(top, None) for finder in others)
        return not any(spec is not None and spec.loader is not None and spec.origin != str(own) for spec in specs)

    @functools.cache  # noqa: B019
    def _is_meant(self, top: str, own: Path, importer: Path) -> bool:
        """Whether ``importer`` means theirs: not itself; a name of the standard library if theirs has what it uses."""
        if importer == own and own.name != "__init__.py":
            return False
        if top not in sys.stdlib_module_names:
            return True
        used = written.taken_from(importer, top)
        return bool(used) and used <= written.defined(own)


class _Loader(SourceFileLoader):
    """Gives a module its project's ``__import__`` before it runs."""

    def __init__(self, project: Project, name: str, path: str) -> None:
        super().__init__(name, path)
        self._project = project

    def exec_module(self, module: ModuleType) -> None:
        self._project.own(module)
        super().exec_module(module)


class _Inner(MetaPathFinder):
    """Finds the modules in the users' packages, before anybody else does."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        project = _owners.get(fullname.rpartition(".")[0])
        return None if project is None else project.found(fullname, path)


class _Last(MetaPathFinder):
    """Finds for a user's code what is nowhere else."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        project = _importer(sys._getframe(1)) if path is None else None
        return None if project is None else project.found(fullname)


_owners: dict[str, Project] = {}
"""Whose a module is, by its name."""
_by_builtins: dict[int, Project] = {}


def modules() -> list[ModuleType]:
    """The users' modules that are loaded: another process finds none of them by its name."""
    return [module for name in _owners if (module := sys.modules.get(name)) is not None]


def _importer(frame: FrameType | None) -> Project | None:
    """The project whose code wants to import something, by ``import`` or by importlib."""
    while frame is not None and frame.f_globals.get("__name__") in ("importlib._bootstrap", "importlib", __name__):
        frame = frame.f_back
    return None if frame is None else _by_builtins.get(id(frame.f_globals.get("__builtins__")))

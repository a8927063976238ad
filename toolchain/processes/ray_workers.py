"""Workers on a Ray cluster: one core each, what they share in its object store, tried again when they are lost."""

import contextlib
import functools
import gc
import importlib
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import toolchain
from exporters import processors
from toolchain.errors import NotAvailable
from toolchain.machine import library_versions
from toolchain.processes.workers import Shared
from toolchain.user_code import project

T = TypeVar("T")
Q = TypeVar("Q")
R = TypeVar("R")
_RETRIES = 5
"""How often a piece begins again whose worker was lost: one that kills whoever does it must end."""
_AT_HAND = 4
"""How many of the values that were shared a worker keeps unpacked."""


class RayWorkers:
    """The cores of the cluster that ``ray``, the module, has joined."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self.count = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._task = ray.remote(num_cpus=1, max_retries=_RETRIES)(_answer)
        self._expected = _versions()
        self._open: dict[Any, None] = {}

    def begin_with(self, module: str) -> None:
        """Have each import ``module`` with all that it imports, which takes seconds."""
        nothing = self.share(None)
        for _ in range(self.count):
            self.ask(_imported, nothing, module)

    def share(self, value: T) -> "_Shared[T]":
        for module in project.modules():  # which no worker could import
            self._ray.cloudpickle.register_pickle_by_value(module)
        return _Shared(self._ray.put(value), value)

    def ask(self, function: Callable[[Shared[T], Q], R], shared: Shared[T], question: Q) -> "_Asked[R]":
        reference = self._task.remote(self._expected, function, shared, question)
        self._open[reference] = None
        return _Asked(self._ray, reference, self._open)

    def leave(self) -> None:
        """Stop what nobody waits for any more."""
        for reference in self._open:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.cancel(reference, force=True)


class _Shared(Generic[T]):
    """A value in the object store, which a worker unpacks once: with the sessions that it keeps open."""

    def __init__(self, reference: Any, *value: T) -> None:
        self._reference, self._value = reference, value

    def __reduce__(self) -> tuple[Any, ...]:
        return _Shared, (self._reference,)

    @property
    def value(self) -> T:
        if self._value:
            return self._value[0]
        if self._reference not in _values:
            while len(_values) >= _AT_HAND:
                _values.popitem(last=False)
            _values[self._reference] = importlib.import_module("ray").get(self._reference)
        _values.move_to_end(self._reference)
        found: T = _values[self._reference]
        return found


_values: OrderedDict[Any, Any] = OrderedDict()


class _Asked(Generic[R]):
    def __init__(self, ray: Any, reference: Any, opened: dict[Any, None]) -> None:
        self._ray, self._reference, self._opened = ray, reference, opened

    def is_there(self) -> bool:
        return bool(self._ray.wait([self._reference], timeout=0)[0])

    def result(self) -> R:
        try:
            found = self._ray.get(self._reference)
        except self._ray.exceptions.RayTaskError as error:
            raise _failure(error) from error
        except self._ray.exceptions.RayError as error:
            raise NotAvailable(
                f"A worker of Ray was lost {_RETRIES + 1} times at the same work, or all were: {line_of(error)}.",
                "Look at the cluster with `ray status`, and at its memory.",
            ) from error
        finally:
            self._opened.pop(self._reference, None)
        if isinstance(found, _Raised):
            raise found.again()
        answer: R = found
        return answer


def _failure(error: Any) -> Exception:
    """What a task failed with before a line of ours ran, or while its answer was packed."""
    if isinstance(error.cause, ImportError):
        return NotAvailable(
            f"The cluster's workers lack what this process has: {line_of(error.cause)}.",
            f"Install nnx-toolchain {toolchain.__version__} with its libraries on the cluster's machines.",
        )
    return RuntimeError(str(error))


def _imported(nothing: Shared[None], module: str) -> None:
    importlib.import_module(module)
    gc.freeze()  # the libraries' objects, which each collection would look through again


class _Raised:
    """An error on its way home: not every class can be made anew from its text."""

    def __init__(self, error: Exception) -> None:
        self._kind, self._args, self._facts = type(error), error.args, dict(vars(error))
        self._where = "".join(traceback.format_exception(error))

    def again(self) -> Exception:
        made = self._kind.__new__(self._kind)
        made.args = self._args
        vars(made).update(self._facts)
        made.add_note(f"In a worker of Ray:\n{self._where}")
        return made


def _answer(expected: Mapping[str, str], function: Callable[[Any, Any], Any], shared: Any, question: Any) -> Any:
    """One piece, in a worker."""
    try:
        if (versions := _versions()) != expected:
            apart = ", ".join(
                f"{name} {versions.get(name)}" for name in expected if versions.get(name) != expected[name]
            )
            raise NotAvailable(
                f"The cluster's workers have other versions than this process: {apart}.",
                "Install the same versions on the cluster's machines, or run it from one of them.",
            )
        with processors.limited_to(1):
            return function(shared, question)
    except Exception as error:  # noqa: BLE001 - told in the process that asked
        return _Raised(error)


@functools.cache
def _versions() -> dict[str, str]:
    """Of what results depend on."""
    return {
        "nnx": toolchain.__version__,
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        **library_versions(),
    }


def line_of(error: BaseException) -> str:
    """What Ray says, in a part of a sentence."""
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__

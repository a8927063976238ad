"""Workers on a Ray cluster: one core each, what they share in its object store, tried again when they are lost."""

import contextlib
import ctypes
import functools
import importlib
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import toolchain
from exporters import processors, temporary_folder
from toolchain.errors import BadUsage, NotAvailable
from toolchain.machine import library_versions, memory_limit
from toolchain.processes.workers import Shared, Workers
from toolchain.user_code import project

T = TypeVar("T")
Q = TypeVar("Q")
R = TypeVar("R")
AUTO = "auto"
_TOKEN = secrets.token_hex(32)
_RETRIES = 5
"""How often a piece begins again whose worker was lost: one that kills whoever does it must end."""
_ANSWERS_WITHIN_S = 5.0
_ENDS_WITHIN_S = 1.0
_LONGEST_FOLDER = 26
_PR_SET_CHILD_SUBREAPER = 36
_AT_HAND = 4
"""How many of the values that were shared a worker keeps unpacked."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it warns that this will change
}


@contextlib.contextmanager
def joined(address: str, *, cores: int | None = None, ahead: str = "") -> Iterator[Workers]:
    """The workers of the cluster at ``address``, one for each of its cores.

    ``auto`` is the one that RAY_ADDRESS names, or a new one of this machine's cores (or ``cores``), which ends with the
    block; what was still asked for ends with it anyway. Each imports the module ``ahead`` while nobody waits. Raises
    ModuleNotFoundError without Ray, NotAvailable where nobody answers.
    """
    known = os.environ.get("RAY_ADDRESS") if address == AUTO else address
    if known is not None:
        _require_answer(known)
    with _told(own=known is None), contextlib.ExitStack() as stack:
        ray = importlib.import_module("ray")
        logging.getLogger("ray").setLevel(logging.ERROR)
        try:
            if known is None:
                folder = stack.enter_context(_in_a_folder(ray))
                options: dict[str, Any] = {
                    "address": "local", "num_cpus": cores or processors.usable_cores(), "include_dashboard": False,
                    "_temp_dir": str(folder), "_node_ip_address": "127.0.0.1",
                }  # fmt: skip
            else:
                options = {"address": known}
                stack.callback(ray.shutdown)
            with memory_limit.lifted(), _own_signals():
                ray.init(**options, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        except (ValueError, RuntimeError, OSError, ray.exceptions.RayError) as error:
            where = f"the cluster at {known}" if known else "a cluster here"
            raise NotAvailable(f"Ray cannot use {where}: {_line(error)}.", "Look at it with `ray status`.") from error
        workers = _RayWorkers(ray)
        stack.callback(workers.leave)
        if ahead:
            workers.begin_with(ahead)
        yield workers


@contextlib.contextmanager
def _told(*, own: bool) -> Iterator[None]:
    """Tell Ray what it reads in the environment; at the end that and logging are as they were.

    A cluster of our ``own`` answers to whoever has a token that we make: Ray would make one in the user's home folder.
    """
    told = _QUIET | ({"RAY_AUTH_TOKEN": _TOKEN} if own else {})
    unset = [name for name in (*told, "RAY_AUTH_MODE") if name not in os.environ]
    handlers = logging.root.handlers[:]
    os.environ.update({name: told[name] for name in unset if name in told})
    try:
        yield
    finally:
        for name in unset:
            os.environ.pop(name, None)
        logging.root.handlers[:] = handlers


@contextlib.contextmanager
def _own_signals(*, wait: bool = False) -> Iterator[None]:
    """Ray takes signals for itself, and a process that one ends must tidy up and tell so; after the block, to ``wait``.

    What Ray makes of one that comes meanwhile is any error at all, or none: which came is asked of Python.
    """
    if threading.current_thread() is not threading.main_thread():  # to which signals come, and Ray changes nothing
        yield
        return
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    read, written = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    earlier = signal.set_wakeup_fd(written)
    raised: BaseException | None = None
    try:
        for number in before if wait else ():
            signal.signal(number, lambda number, frame: None)
        yield
    except BaseException as error:  # noqa: BLE001 - raised below, where no signal came
        raised = error
    finally:
        signal.set_wakeup_fd(earlier)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(written)
        with os.fdopen(read, "rb") as told:
            came = [each for each in told.read() if each in before]
    if came:
        signal.raise_signal(came[0])
    if raised is not None:
        raise raised


@contextlib.contextmanager
def _in_a_folder(ray: Any) -> Iterator[Path]:
    """One for a cluster that begins in the block, at whose end neither its processes nor its files are left.

    Its name leaves room for those of Ray's sockets, which may have 107 letters in all. Ray's agents notice some time
    later that their parent is gone, and an interrupted start has begun what Ray then knows nothing of: so, on Linux,
    whoever loses its parent becomes a child of this process.
    """
    processes = importlib.import_module("psutil")  # Ray brings it along
    this = processes.Process()
    before = set(this.children(recursive=True))
    _, base = temporary_folder.given()
    if base is not None and len(str(base)) > _LONGEST_FOLDER and Path("/tmp").is_dir():
        base = Path("/tmp")
    folder = tempfile.mkdtemp(prefix="nnx-ray-", dir=base)
    _adopt_orphans(1)
    try:
        yield Path(folder)
    finally:
        with _own_signals(wait=True):
            with _own_signals(wait=True):  # which it leaves to the kernel's default
                ray.shutdown()
            while left := set(this.children(recursive=True)) - before:
                for each in processes.wait_procs(left, timeout=_ENDS_WITHIN_S)[1]:
                    with contextlib.suppress(processes.NoSuchProcess):
                        each.kill()
            _adopt_orphans(0)
            shutil.rmtree(folder, ignore_errors=True)


def _adopt_orphans(whether: int) -> None:
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, whether)


def _require_answer(address: str) -> None:
    """Ray itself tries for two minutes, and writes what it does on stderr."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if address == AUTO or address == "local":
        return
    if not host or not port.isdecimal():
        raise BadUsage(f"{address} is no address of a Ray cluster.", "Give auto, or HOST:PORT such as head:6379.")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWERS_WITHIN_S).close()
    except (OSError, OverflowError) as error:
        raise NotAvailable(
            f"No Ray cluster answers at {address}: {_line(error)}.",
            "Look at the address with `ray status` on the cluster's head.",
        ) from error


class _RayWorkers:
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
                f"A worker of Ray was lost {_RETRIES + 1} times at the same work, or all were: {_line(error)}.",
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
            f"The cluster's workers lack what this process has: {_line(error.cause)}.",
            f"Install nnx-toolchain {toolchain.__version__} with its libraries on the cluster's machines.",
        )
    return RuntimeError(str(error))


def _imported(nothing: Shared[None], module: str) -> None:
    importlib.import_module(module)


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


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__

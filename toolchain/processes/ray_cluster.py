"""A Ray cluster, joined or begun for one command, of which no process, file or handler of signals is left."""

import contextlib
import ctypes
import importlib
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exporters import processors, temporary_folder
from toolchain.errors import BadUsage, NotAvailable
from toolchain.machine import memory_limit
from toolchain.processes.ray_workers import RayWorkers, line_of
from toolchain.processes.workers import Workers

AUTO = "auto"
_TOKEN = secrets.token_hex(32)
_ANSWERS_WITHIN_S = 5.0
_ENDS_WITHIN_S = 1.0
_LONGEST_FOLDER = 26
_MOST_SIGNALS = 4096
_PR_SET_CHILD_SUBREAPER = 36
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
                stack.callback(_left, ray)
            with memory_limit.lifted(), _own_signals():
                ray.init(**options, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        except (ValueError, RuntimeError, OSError, ray.exceptions.RayError) as error:
            where = f"the cluster at {known}" if known else "a cluster here"
            raise NotAvailable(f"Ray cannot use {where}: {line_of(error)}.", "Look at it with `ray status`.") from error
        workers = RayWorkers(ray)
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
    told, tells = socket.socketpair()
    told.setblocking(False)
    tells.setblocking(False)
    earlier = signal.set_wakeup_fd(tells.fileno())
    came: list[int] = []
    raised: BaseException | None = None
    try:
        for number in before if wait else ():
            signal.signal(number, lambda number, frame: None)
        yield
    except BaseException as error:  # noqa: BLE001 - raised below, where no signal came
        raised = error
    finally:
        try:
            for number, handler in before.items():
                signal.signal(number, handler)
        finally:
            signal.set_wakeup_fd(earlier)
            with told, tells, contextlib.suppress(BlockingIOError):
                came = [each for each in told.recv(_MOST_SIGNALS) if each in before]
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
            _left(ray)
            while left := set(this.children(recursive=True)) - before:
                for each in processes.wait_procs(left, timeout=_ENDS_WITHIN_S)[1]:
                    with contextlib.suppress(processes.NoSuchProcess):
                        each.kill()
            _adopt_orphans(0)
            shutil.rmtree(folder, ignore_errors=True)


def _left(ray: Any) -> None:
    with _own_signals(wait=True):  # which it leaves to the kernel's default
        ray.shutdown()


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
            f"No Ray cluster answers at {address}: {line_of(error)}.",
            "Look at the address with `ray status` on the cluster's head.",
        ) from error

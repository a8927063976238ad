"""A network of its own, whose packets are late and get lost: two TUN devices, one in a name space, and this in between.

Kernels often come without ``tc``'s netem; TUN is there nearly always.
"""

import fcntl
import heapq
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

NAME = "nnx-test"
FAR = "10.213.7.2"
_NEAR = "10.213.7.1"
_DEVICES = ("nnx-near", "nnx-far")
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


class NoNetwork(Exception):
    """Why there is none."""


@contextmanager
def between(*, delay_s: float, loss: float) -> Iterator[tuple[str, ...]]:
    """The command that leads into the name space, where ``FAR`` is; each way takes ``delay_s``, ``loss`` is a share."""
    if os.geteuid() != 0 or shutil.which("ip") is None or not os.path.exists("/dev/net/tun"):  # noqa: PTH110
        raise NoNetwork("a network of its own takes root, ip (iproute2) and /dev/net/tun")
    within = ("ip", "netns", "exec", NAME)
    with ExitStack() as stack:
        _run("ip", "netns", "add", NAME)
        stack.callback(_run, "ip", "netns", "del", NAME)
        near, far = (stack.enter_context(_tun(name)) for name in _DEVICES)
        _run("ip", "link", "set", _DEVICES[1], "netns", NAME)
        for own, peer, name, into in ((_NEAR, FAR, _DEVICES[0], ()), (FAR, _NEAR, _DEVICES[1], within)):
            _run(*into, "ip", "addr", "add", own, "peer", peer, "dev", name)
            _run(*into, "ip", "link", "set", name, "up")
        _run(*within, "ip", "link", "set", "lo", "up")
        over = threading.Event()
        carrier = threading.Thread(target=_carry, args=(near, far, delay_s, loss, over), daemon=True)
        carrier.start()
        stack.callback(carrier.join)
        stack.callback(over.set)
        yield within


@contextmanager
def _tun(name: str) -> Iterator[int]:
    handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
        yield handle
    except OSError as error:
        raise NoNetwork(f"no network of its own here: {error}") from error
    finally:
        os.close(handle)


def _carry(near: int, far: int, delay_s: float, loss: float, over: threading.Event) -> None:
    other, chance, number = {near: far, far: near}, random.Random(0), 0
    waiting: list[tuple[float, int, int, bytes]] = []
    while not over.is_set():
        left = waiting[0][0] - time.monotonic() if waiting else 0.1
        for handle in select.select([near, far], [], [], min(max(left, 0.0), 0.1))[0]:
            packet = os.read(handle, 65_536)
            number += 1
            if chance.random() >= loss:
                heapq.heappush(waiting, (time.monotonic() + delay_s, number, other[handle], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, to, packet = heapq.heappop(waiting)
            os.write(to, packet)


def _run(*command: str) -> None:
    ended = subprocess.run(command, capture_output=True, check=False)
    if ended.returncode:
        raise NoNetwork(f"no network of its own here: {' '.join(command)}: {ended.stderr.decode()[-200:]}")

"""This machine as if it were another: all of it but ssh, which the end-to-end tests have."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from toolchain.hosts.address import Address
from toolchain.hosts.connection import Connection
from toolchain.hosts.host import Host

HOST = "ssh://here"


@contextmanager
def connected(folder: str = "", python: str = sys.executable) -> Iterator[Connection]:
    with Connection(Address(HOST, folder, ()), python=python, asks=False) as connection:
        yield connection


@contextmanager
def host(folder: str = "", python: str = sys.executable) -> Iterator[Host]:
    with connected(folder, python) as connection:
        yield Host(Address(HOST, folder, ()), connection)

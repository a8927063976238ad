"""A package that answers over HTTP, by the real command, in a process of its own."""

import contextlib
import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Server:
    """One that is ready; ``told`` is what it said of itself."""

    process: "subprocess.Popen[str]"
    told: Mapping[str, Any]

    @property
    def port(self) -> int:
        return int(self.told["url"].split(":")[2].split("/")[0])

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body), over a connection of its own."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def stop(self) -> tuple[int, str]:
        """Ask it to end; (exit code, what it said on stderr)."""
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


Serve = Callable[..., Server]


@contextlib.contextmanager
def servers() -> Iterator[Serve]:
    """start(package, "--max-batch", 4) -> a server on a free port; all of them are ended with the block."""
    started: list[subprocess.Popen[str]] = []

    def start(package: Path, *arguments: object) -> Server:
        command = [sys.executable, "-m", "toolchain", "serve", str(package), "--port", "0", "--json"]
        process = subprocess.Popen(
            [*command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError(process.communicate()[1])
        return Server(process, json.loads(line))

    try:
        yield start
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.communicate()

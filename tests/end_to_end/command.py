"""The real command, in a process of its own and another folder."""

import signal
import subprocess
import sys
from pathlib import Path


def run_nnx(*arguments: object, cwd: Path, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
    """Run ``nnx`` and wait for it."""
    command = [sys.executable, "-m", "toolchain", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


def start_nnx(*arguments: object, cwd: Path) -> "subprocess.Popen[str]":
    """Start ``nnx`` and go on."""
    command = [sys.executable, "-m", "toolchain", *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell starts background jobs, such as this test run may be, with Ctrl-C ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

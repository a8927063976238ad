"""A package proves itself: its own runner tests it in a fresh process, as it will on a device."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toolchain.errors import CheckFailed, NotAvailable

RUNNER = Path("runners", "python", "run.py")


def run(folder: Path, *arguments: str, python: str = sys.executable, timeout_s: float = 600.0) -> Mapping[str, Any]:
    """The receipt.

    Raises CheckFailed when a check failed, or when there is none; NotAvailable where Python has no onnxruntime.
    """
    command = [python, str(folder / RUNNER), "--self-test", *arguments]
    try:
        ended = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "ORT_DISABLE_TELEMETRY": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        )
    except subprocess.TimeoutExpired as error:
        raise CheckFailed(f"The self-test took longer than {timeout_s:g} s.", "Look at the model's latency.") from error
    try:
        receipt: Mapping[str, Any] = json.loads(ended.stdout)
    except ValueError:
        last = " ".join(ended.stderr.strip().splitlines()[-1:])
        raise CheckFailed(f"The self-test ended with code {ended.returncode}: {last}", "Run it by hand.") from None
    if "error" in receipt:
        raise NotAvailable(receipt["error"]["what"], receipt["error"]["do"])
    if not receipt["ok"]:
        raise CheckFailed(f"The package fails its self-test: {_failed(receipt['checks'])}.", "Do not ship it.")
    return receipt


def _failed(checks: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(f"{each['name']}: {each['detail'].rstrip('.')}" for each in checks if not each["ok"])

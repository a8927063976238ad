"""What ``nvidia-smi``, which comes with the driver, says of a device; for backends that cannot say it themselves."""

import os
import subprocess

_TIMEOUT_S = 10.0


def name(device_id: int) -> str | None:
    """The name of the device that CUDA counts as ``device_id``; None where nobody knows."""
    # CUDA counts the devices that this variable leaves, by index or UUID, both of which nvidia-smi takes
    visible = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
    chosen = visible[device_id] if device_id < len(visible) else str(device_id)
    return next(iter(_ask("--query-gpu=name", "-i", chosen)), None)


def memory_bytes() -> int | None:
    """What this process holds on all devices, CUDA's own context included.

    None where there is no driver, or where it knows the process by another number, as outside a container.
    """
    entries = [line.replace(" ", "").split(",") for line in _ask("--query-compute-apps=pid,used_memory")]
    mebibytes = [int(held) for process, held in entries if process == str(os.getpid()) and held.isdecimal()]
    return sum(mebibytes) * 2**20 if mebibytes else None


def _ask(*question: str) -> list[str]:
    command = ["nvidia-smi", *question, "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in told.stdout.splitlines() if line.strip()]

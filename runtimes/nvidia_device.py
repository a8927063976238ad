"""What ``nvidia-smi``, which comes with the driver, says of a device; for backends that cannot say it themselves."""

import os
import subprocess

_TIMEOUT_S = 10.0


def name(device_id: int) -> str | None:
    """The name of the device that CUDA counts as ``device_id``; None where that cannot be told for sure."""
    names = _ask("--query-gpu=name")
    if len(set(names)) <= 1:
        return next(iter(names), None)
    # CUDA counts the fastest first unless it is told to count along the bus, as nvidia-smi does, and counts those only
    # that the other variable lists; it may do so by UUID, which no number of nvidia-smi follows from
    if os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = [str(each) for each in range(len(names))] if visible is None else visible.split(",")
    chosen = numbers[device_id].strip() if device_id < len(numbers) else ""
    return names[int(chosen)] if chosen.isdecimal() and int(chosen) < len(names) else None


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

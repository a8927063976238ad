"""This machine: :mod:`.description` is what it is, :mod:`.conditions` what may be used of it and what bends figures."""

from exporters.processors import usable_cores
from toolchain.machine.conditions import busy_share
from toolchain.machine.description import (
    BF16_FLAGS,
    Gpu,
    Gpus,
    Machine,
    describe,
    gpus,
    has_bf16,
    isa_flags,
    library_versions,
)

__all__ = [
    "BF16_FLAGS", "Gpu", "Gpus", "Machine", "busy_share", "describe", "gpus", "has_bf16", "isa_flags",
    "library_versions", "usable_cores",
]  # fmt: skip

"""Which int8 format a CPU is fast at, and why."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Int8Format:
    """How numbers are stored: ``activation`` and ``weight`` are ``int8`` or ``uint8``.

    ``reduce_range`` keeps weights in 7 bits, for CPUs that add pairs of uint8 x int8 products in 16 bits.
    """

    target: str
    activation: str
    weight: str
    per_channel: bool
    reduce_range: bool
    reason: str

    def __str__(self) -> str:
        weights = f"{self.weight} weights per {'channel' if self.per_channel else 'tensor'}"
        bits = ", 7 bits" if self.reduce_range else ""
        return f"{self.activation} activations x {weights}{bits} for {self.target}: {self.reason}"


_X86_VNNI = Int8Format(
    target="x86-vnni",
    activation="uint8",
    weight="int8",
    per_channel=True,
    reduce_range=False,
    # Zen 5, ResNet-18, batch 1: 4.96 ms against 13.3 (int8 x int8, the library's default) and 11.6 (uint8 x uint8).
    reason="VNNI multiplies uint8 by int8; int8 x int8 is 2 to 3 times slower",
)
_X86_AVX2 = Int8Format(
    target="x86-avx2",
    activation="uint8",
    weight="int8",
    per_channel=True,
    reduce_range=True,
    reason="without VNNI pairs of products saturate at 16 bits, so weights keep to 7 bits",
)
_ARM64 = Int8Format(
    target="arm64",
    activation="int8",
    weight="int8",
    per_channel=True,
    reduce_range=False,
    reason="its kernels multiply int8 by int8",
)
_VNNI_FLAGS = {"avx512_vnni", "avx_vnni", "amx_int8"}


def format_for(*, architecture: str, isa: Collection[str]) -> Int8Format:
    """The int8 format for a CPU, from ``platform.machine()`` and the processor's feature flags."""
    if architecture.lower() in ("aarch64", "arm64"):
        return _ARM64
    return _X86_VNNI if _VNNI_FLAGS & set(isa) else _X86_AVX2

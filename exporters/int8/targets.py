"""Which int8 format a device is fast at, and why."""

from collections.abc import Collection
from dataclasses import dataclass

from exporters.errors import BadOption

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class Int8Format:
    """How numbers are stored: ``activation`` and ``weight`` are ``int8`` or ``uint8``; weights are always symmetric.

    ``symmetric`` activations have their zero point in the middle; ``reduce_range`` keeps weights in 7 bits;
    ``float_ops`` are operators left in fp32; ``stem_fold`` says whether a 3-channel stem is worth rearranging.
    """

    target: str
    activation: str
    weight: str
    reason: str
    per_channel: bool = True
    symmetric: bool = False
    reduce_range: bool = False
    float_ops: tuple[str, ...] = ("Softmax",)
    stem_fold: bool = False

    def __str__(self) -> str:
        weights = f"{self.weight} weights per {'channel' if self.per_channel else 'tensor'}"
        bits = ", 7 bits" if self.reduce_range else ""
        middle = "symmetric " if self.symmetric else ""
        return f"{middle}{self.activation} activations x {weights}{bits} for {self.target}: {self.reason}"


_ALL = (
    Int8Format(
        target="x86-vnni", activation="uint8", weight="int8", stem_fold=True,
        # Zen 5, ResNet-18, batch 1: 4.96 ms against 13.3 (int8 x int8, the library's default) and 11.6 (uint8 x uint8).
        reason="VNNI multiplies uint8 by int8; int8 x int8 is 2 to 3 times slower",
    ),
    Int8Format(
        target="x86-amx", activation="uint8", weight="int8", stem_fold=True,
        reason="AMX tiles multiply uint8 by int8, as VNNI does",
    ),
    Int8Format(
        target="x86-avx2", activation="uint8", weight="int8", reduce_range=True, stem_fold=True,
        reason="without VNNI pairs of products saturate at 16 bits, so weights keep to 7 bits",
    ),
    Int8Format(
        target="arm64", activation="int8", weight="int8",
        reason="NEON multiplies int8 by int8",
    ),
    Int8Format(
        target="arm64-dotprod", activation="int8", weight="int8",
        reason="SDOT multiplies int8 by int8, four products at once",
    ),
    Int8Format(
        target="cuda", activation="int8", weight="int8", symmetric=True,
        reason="ONNX Runtime's CUDA provider has few int8 kernels: look at the placement, or ship fp16",
    ),
    Int8Format(
        target="tensorrt", activation="int8", weight="int8", symmetric=True,
        reason="TensorRT takes int8 with every zero point at 0",
    ),
    Int8Format(
        target="openvino", activation="uint8", weight="int8",
        reason="OpenVINO's own quantizer makes this format for x86",
    ),
    Int8Format(
        target="web", activation="uint8", weight="int8", per_channel=False,
        reason="a quarter of the download; in WebAssembly it was 2 to 4 times slower than fp32",
    ),
)  # fmt: skip
TARGETS = {each.target: each for each in _ALL}
_VNNI_FLAGS = {"avx512_vnni", "avx_vnni"}


def named(target: str) -> Int8Format:
    """The format of that target; raise BadOption for one that is not in the table."""
    if target not in TARGETS:
        raise BadOption(f"There is no target '{target}'.", f"Choose {AUTO} or one of {', '.join(TARGETS)}.")
    return TARGETS[target]


def format_for(*, architecture: str, isa: Collection[str]) -> Int8Format:
    """The int8 format for a CPU, from ``platform.machine()`` and the processor's feature flags as Linux names them."""
    if architecture.lower() in ("aarch64", "arm64"):
        return TARGETS["arm64-dotprod" if "asimddp" in isa else "arm64"]
    if "amx_int8" in isa:
        return TARGETS["x86-amx"]
    return TARGETS["x86-vnni" if _VNNI_FLAGS & set(isa) else "x86-avx2"]

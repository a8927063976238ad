"""What a training run was asked for, and what this machine makes of it."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from runtimes import torch_compiler
from toolchain import machine
from toolchain.errors import BadUsage, NotAvailable
from toolchain.progress import SILENT, Progress
from toolchain.recipes.recipe import Recipe

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "off": None}
_AMPERE = (8, 0)


@dataclass(frozen=True, kw_only=True)
class Switches:
    """What makes a step or an epoch faster; all off is the loop that a newcomer writes.

    ``amp`` is fp16, bf16 or off. ``whole_batches`` augments batches of tensors instead of sample by sample.
    ``async_copy`` pins host memory and copies with non_blocking; ``cast_before_copy`` sends uint8 or half-width values
    to the device; both matter on a GPU alone. ``reuse_memory`` lets the C allocator keep freed blocks; it matters on a
    CPU alone. ``fused_optimizer`` updates all weights in one kernel.
    """

    amp: str = "off"
    channels_last: bool = False
    compile: bool = False
    compile_mode: str = "default"
    whole_batches: bool = False
    async_copy: bool = False
    cast_before_copy: bool = False
    reuse_memory: bool = False
    fused_optimizer: bool = False

    @property
    def amp_dtype(self) -> torch.dtype | None:
        """The autocast dtype, None without AMP."""
        return _DTYPES[self.amp]

    def on(self) -> list[str]:
        """The names of what is switched on."""
        chosen = asdict(self)
        names = [name for name, value in chosen.items() if value is True]
        return ([f"amp {self.amp}"] if self.amp != "off" else []) + names


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """How several processes share a step; the number of them is no option, for another one comes to the same.

    ``accumulate`` is in how many parts each does its share of a batch, one after the other. ``shared_norm`` lets every
    BatchNorm see the samples of all. ``fsdp`` keeps a part of the weights in each. ``reduction`` is the number format,
    fp32 or bf16, in which gradients travel.
    """

    accumulate: int = 1
    shared_norm: bool = False
    fsdp: bool = False
    reduction: str = "fp32"


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """One training run. ``lr`` is the peak when the recipe anneals it; ``device`` is cpu or cuda.

    ``batch_size`` is the samples of one step, in all processes together.
    """

    epochs: int
    batch_size: int
    lr: float
    seed: int
    device: str
    switches: Switches
    parallel: Parallel = Parallel()

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise BadUsage(f"{name.replace('_', ' ')} is {getattr(self, name)}.", "It must be at least 1.")
        if not self.lr > 0:
            raise BadUsage(f"The learning rate is {self.lr}.", "It must be above 0.")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def resolve(
    recipe: Recipe,
    *,
    progress: Progress = SILENT,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int = 42,
    device: str = "auto",
    amp: str = "auto",
    compile: bool | None = None,
    compile_mode: str = "default",
    parallel: Parallel | None = None,
) -> TrainingOptions:
    """Fill in the recipe's defaults and this machine's abilities; what is missing is noted once and left out."""
    device = resolve_device(device)
    if compile is None:
        compile = device == "cuda" or recipe.compile_on_cpu
    if compile and (missing := torch_compiler.why_not(device)):
        progress.warn(f"Training without torch.compile: {missing}.")
        compile = False
    parallel = parallel or Parallel()
    # weights in parts are of neither another memory format nor any fused kernel
    without = {"channels_last": False, "fused_optimizer": False} if parallel.fsdp else {}
    return TrainingOptions(
        epochs=recipe.epochs if epochs is None else epochs,
        batch_size=recipe.batch_size if batch_size is None else batch_size,
        lr=recipe.lr if lr is None else lr,
        seed=seed,
        device=device,
        switches=replace(
            fastest(device), amp=resolve_amp(amp, device), compile=compile, compile_mode=compile_mode, **without
        ),
        parallel=parallel,
    )


def fastest(device: str) -> Switches:
    """Every switch that matters on ``device``, but torch.compile, which pays for some models only."""
    on_gpu = device == "cuda"
    return Switches(
        amp=resolve_amp("auto", device),
        channels_last=True,
        whole_batches=True,
        async_copy=on_gpu,
        cast_before_copy=on_gpu,
        reuse_memory=not on_gpu,
        fused_optimizer=True,
    )


def resolve_device(device: str) -> str:
    """``auto`` is cuda where PyTorch sees a device, else cpu. Raises NotAvailable for a cuda that is not there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise NotAvailable(
            "PyTorch sees no CUDA device.",
            "Install a CUDA build of torch and NVIDIA's driver, or use --device cpu.",
        )
    return device


def resolve_amp(amp: str, device: str) -> str:
    """``auto`` is bf16 on CPUs that multiply it and on GPUs from Ampere on, fp16 on older GPUs, off elsewhere."""
    if amp != "auto":
        return amp
    if device == "cuda":
        return "bf16" if torch.cuda.get_device_capability() >= _AMPERE else "fp16"
    return "bf16" if machine.has_bf16() else "off"

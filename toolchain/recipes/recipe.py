"""What a recipe is: a model, its data, and how to train it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from toolchain.datasets.dataset import DataSource

Augmentation = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
"""Changes a whole float batch ``(N, ...)`` at once, drawing from the generator; returns the same shape."""


def sgd(parameters: Iterable[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum 0.9 and weight decay 5e-4."""
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)


def adam(parameters: Iterable[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Adam with its default betas."""
    return torch.optim.Adam(parameters, lr=lr)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that ``nnx run`` needs to know about one task.

    ``model`` makes an untrained module; its forward takes one batch ``(N, ...)`` and returns class scores ``(N, K)``.
    ``data`` takes the folder given by ``--data`` (None without it). ``one_cycle`` anneals the learning rate over the
    whole training with its peak at ``lr`` (Smith 2018); without it ``lr`` is constant. ``compile_on_cpu`` says whether
    torch.compile is on by default there, where it does not pay for every model. ``cast_inputs`` says that inputs may
    be rounded to AMP's half precision before forward() sees them: that saves a copy, and suits pixels and weights of
    words, not values that are told apart beyond three digits. Whole numbers are never rounded.
    """

    name: str
    model: Callable[[], torch.nn.Module]
    data: Callable[[Path | None], DataSource]
    epochs: int
    batch_size: int
    lr: float
    optimizer: Callable[[Iterable[torch.nn.Parameter], float], torch.optim.Optimizer] = sgd
    one_cycle: bool = True
    label_smoothing: float = 0.0
    augment: Augmentation | None = None
    compile_on_cpu: bool = True
    cast_inputs: bool = False
    input_name: str = "input"
    output_name: str = "logits"

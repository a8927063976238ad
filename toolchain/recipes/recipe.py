"""What a recipe is: a model, its data, and how to train it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt
import torch

from exporters.errors import ExporterError, in_words
from toolchain.accuracy.metrics.built_in import BUILT_IN, TOP1
from toolchain.accuracy.metrics.metric import Metric
from toolchain.accuracy.metrics.own import Function, of_function
from toolchain.datasets.dataset import DataSource, Split
from toolchain.errors import BadUsage, NnxError, is_of_the_machine

Tensors = dict[str, torch.Tensor]
"""Model inputs by name, each ``(B, ...)``."""
Augmentation = Callable[[Any, torch.Generator], Any]
"""Changes a whole float batch ``(N, ...)`` at once, drawing from the generator; returns the same shape.

Of several inputs it takes and returns the dict.
"""
PairAugmentation = Callable[[Any, Any, torch.Generator], tuple[Any, Any]]
"""The same for (inputs, targets), where both must change alike, as an image and its mask."""
Loss = Callable[[Any, Any], torch.Tensor]
"""(what forward() returns, targets) -> one number to lower; floats come as float32, whole numbers as int64."""
Collate = Callable[[Sequence[tuple[Any, Any]]], tuple[Any, Any]]
"""Stored samples, each (input, target) or a dict of them where there are several, -> (inputs, targets) of one batch:
tensors, or dicts of tensors. What is of unequal length is padded here, text becomes numbers."""
Sampler = Callable[[Split, torch.Generator], npt.ArrayLike | torch.Tensor]
"""(training split, generator) -> the row numbers of one epoch in their order; every epoch as many."""
ParameterGroups = Callable[[torch.nn.Module, float], Iterable[dict[str, Any]]]
"""(model, learning rate) -> torch's groups, such as ``{"params": model.head.parameters(), "lr": lr / 10}``."""
Schedule = Callable[[torch.optim.Optimizer, int], torch.optim.lr_scheduler.LRScheduler]
"""(optimizer, number of steps) -> what is stepped after every step of the optimizer: not after every epoch."""

_ONLY = "output"
"""What a tensor that forward() returns by itself is called where nothing else is said."""


def sgd(parameters: Iterable[Any], lr: float) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum 0.9 and weight decay 5e-4."""
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)


def adam(parameters: Iterable[Any], lr: float) -> torch.optim.Optimizer:
    """Adam with its default betas."""
    return torch.optim.Adam(parameters, lr=lr)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that ``nnx run`` needs to know about one task.

    ``model`` makes an untrained module; its forward takes one batch ``(N, ...)`` of each input, by name or in their
    order, and returns class scores ``(N, K)``, or whatever ``loss`` takes: a tensor, a tuple, a dict, a dataclass.
    ``data`` takes the folder given by ``--data`` (None without it); ``collate`` makes a batch of what are no arrays.
    ``input_name`` is that of the only input; several have the keys of their dict. ``output_name`` is that of the only
    output; several have their keys or places.

    Without ``loss`` it is cross-entropy, with ``label_smoothing`` and ``class_weights`` (one a class; "balanced" weighs
    a class by how rare it is): scores ``(N, K, ...)`` and class numbers ``(N, ...)``, of which -100 is left out.
    ``metric`` chooses the best epoch, and judges whatever is made of the model: a name of those that come with nnx, a
    Metric, or a function of (outputs, targets), of which more is better unless its ``higher_is_better`` is false.

    ``sampler`` chooses each epoch's rows; ``mixup`` is the alpha of Zhang et al. (2018): batches are mixed with
    themselves, and so are their losses. ``one_cycle`` anneals the learning rate over the whole training with its peak
    at ``lr`` (Smith 2018); ``schedule`` replaces it; without either ``lr`` is constant. ``patience`` ends the training
    after so many epochs without a better one.

    ``compile_on_cpu`` says whether torch.compile is on by default there, where it does not pay for every model.
    ``cast_inputs`` says that inputs may be rounded to AMP's half precision before forward() sees them: that saves a
    copy, and suits pixels and weights of words, not values that are told apart beyond three digits. Whole numbers are
    never rounded.
    """

    name: str
    model: Callable[[], torch.nn.Module]
    data: Callable[[Path | None], DataSource]
    epochs: int
    batch_size: int
    lr: float
    optimizer: Callable[[Iterable[Any], float], torch.optim.Optimizer] = sgd
    parameter_groups: ParameterGroups | None = None
    one_cycle: bool = True
    schedule: Schedule | None = None
    patience: int | None = None
    loss: Loss | None = None
    metric: str | Metric | Function = "top1"
    label_smoothing: float = 0.0
    class_weights: Sequence[float] | Literal["balanced"] | None = None
    collate: Collate | None = None
    sampler: Sampler | None = None
    augment: Augmentation | None = None
    augment_pairs: PairAugmentation | None = None
    mixup: float = 0.0
    compile_on_cpu: bool = True
    cast_inputs: bool = False
    input_name: str = "input"
    output_name: str = "logits"

    def __post_init__(self) -> None:
        if self.loss is not None and (self.label_smoothing or self.class_weights is not None):
            raise BadUsage(
                f"The recipe {self.name} has a loss of its own beside label_smoothing or class_weights.",
                "Let the loss do that: they belong to the one that comes with nnx.",
            )
        if self.patience is not None and self.patience < 1:
            raise BadUsage(
                f"The patience of the recipe {self.name} is {self.patience}: it would end before the first epoch.",
                "Give 1 or more epochs, or leave it out.",
            )
        if not 0 <= self.mixup < float("inf"):
            raise BadUsage(f"The mixup of the recipe {self.name} is {self.mixup}.", "Give 0 for none, or 0.1 to 1.")
        if isinstance(self.metric, str) and self.metric not in BUILT_IN:
            raise BadUsage(
                f"The recipe {self.name} names the metric '{self.metric}'.",
                f"Choose from {', '.join(BUILT_IN)}, or give a Metric or a function of (outputs, targets).",
            )
        weights = self.class_weights
        if weights is not None and not isinstance(weights, str) and not all(0 <= w < float("inf") for w in weights):
            raise BadUsage(f"A class weight of the recipe {self.name} is not a number from 0 on.", "Mend it.")
        if isinstance(weights, str) and weights != "balanced":
            raise BadUsage(f"The class_weights of the recipe {self.name} are '{weights}'.", 'Write "balanced".')

    def named_output(self, name: str, names: Sequence[str]) -> str:
        """What the output is called that :class:`exporters.torch_module.Flat` calls ``name``, one of ``names``."""
        return self.output_name if tuple(names) == (_ONLY,) else name

    def judged_by(self) -> Metric:
        """Its metric."""
        if isinstance(self.metric, str):
            return TOP1 if self.metric == TOP1.name else BUILT_IN[self.metric]()
        if isinstance(self.metric, Metric):
            return self.metric
        name = getattr(self.metric, "__name__", "metric")
        return of_function(self.metric, name, higher_is_better=bool(getattr(self.metric, "higher_is_better", True)))


@contextmanager
def part(what: str, do: str = "Run it in Python first, or add --traceback before the command.") -> Iterator[None]:
    """Code of a recipe's own: what it raises is BadUsage that says so, but for errors of nnx and of the machine."""
    try:
        yield
    except (NnxError, ExporterError):
        raise
    except Exception as error:
        if is_of_the_machine(error):
            raise
        raise BadUsage(f"The recipe's {what} failed: {in_words(error)}.", do) from error


def named_inputs(inputs: Any, recipe: Recipe) -> Tensors:
    """What a collate or an augmentation returned, by name."""
    return dict(inputs) if isinstance(inputs, Mapping) else {recipe.input_name: inputs}

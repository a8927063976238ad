"""Which module of a model is the first whose results part in two runs."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from exporters.torch_module import Flat

_MOST_BYTES = 1 << 30
"""Of results that are kept for the comparison."""
Results = list[tuple[str, str, tuple[torch.Tensor, ...]]]
"""For each module that ran, in the order in which they ended: its name, its kind, what it returned."""


class Watched:
    """Keeps what the modules in ``flat`` return while it runs."""

    def __init__(self, flat: Flat) -> None:
        self.flat = flat
        self.results: Results = []

    @contextmanager
    def running(self) -> Iterator[None]:
        with ExitStack() as hooks:
            self.results, self._bytes = [], 0
            for name, module in self.flat.module.named_modules():
                hooks.enter_context(module.register_forward_hook(self._keep(name, type(module).__name__)))
            yield

    def _keep(self, name: str, kind: str) -> Callable[..., None]:
        def keep(module: torch.nn.Module, given: Any, result: Any) -> None:
            values = result if isinstance(result, (list, tuple)) else [result]
            tensors = tuple(value.detach().clone() for value in values if isinstance(value, torch.Tensor))
            self._bytes += sum(value.nbytes for value in tensors)
            if self._bytes < _MOST_BYTES:
                self.results.append((name, kind, tensors))

        return keep


def first_apart(one: Results, other: Results, alike: Callable[[torch.Tensor, torch.Tensor], bool]) -> str | None:
    """The first module whose results are not ``alike``, in words; None where only the model as a whole tells."""
    for (name, kind, values), (name_there, _, values_there) in zip(one, other, strict=False):
        if name != name_there or len(values) != len(values_there):
            return None
        if not all(alike(*pair) for pair in zip(values, values_there, strict=True)):
            return f"'{name}' ({kind})" if name else None
    return None

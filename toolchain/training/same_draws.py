"""Random numbers for a piece of a batch that are those of the whole batch there.

An augmentation draws for the samples that it is given: ``torch.rand(len(batch), generator=generator)``. So that several
processes change each sample as one process would, the numbers of the whole batch are drawn in each, and those of its
own piece are taken. What is drawn in another way than one row a sample (a permutation, one number for all) is random
all the same, the same in each process, and need not be what a single process draws.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_FACTORIES = {torch.rand, torch.randn, torch.randint}
_IN_PLACE = {
    torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.bernoulli_, torch.Tensor.random_,
    torch.Tensor.exponential_,
}  # fmt: skip


class SameDraws(TorchFunctionMode):
    """In this block ``generator`` draws for rows ``start`` to ``stop`` of ``count`` as it would for all of them."""

    def __init__(self, generator: torch.Generator, *, start: int, stop: int, count: int) -> None:
        super().__init__()
        self._generator, self._start, self._stop, self._count = generator, start, stop, count

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if given.get("generator") is not self._generator:
            return func(*args, **given)
        if func in _FACTORIES:
            return self._made(func, list(args), given)
        rows = func in _IN_PLACE and args[0].ndim and len(args[0]) == self._stop - self._start
        if rows and not any(isinstance(each, torch.Tensor) for each in (*args[1:], *given.values())):
            whole = torch.empty((self._count, *args[0].shape[1:]), dtype=args[0].dtype, device=args[0].device)
            return args[0].copy_(func(whole, *args[1:], **given)[self._start : self._stop])
        return func(*args, **given)

    def _made(self, func: Any, args: list[Any], given: dict[str, Any]) -> Any:
        """One of the factories, whose size is a keyword, a sequence, or the rest of the arguments."""
        rows = self._stop - self._start
        if "size" in given:
            size = list(given["size"])
            more = {**given, "size": [self._count, *size[1:]]}
            return self._own(func(*args, **more)) if size[:1] == [rows] else func(*args, **given)
        bounds = 0
        if func is torch.randint:  # (high, size) or (low, high, size)
            bounds = next((place for place, value in enumerate(args) if isinstance(value, Sequence)), len(args))
        if len(args) <= bounds:
            return func(*args, **given)
        if isinstance(args[bounds], Sequence):
            size = list(args[bounds])
            if size[:1] == [rows]:
                args[bounds] = [self._count, *size[1:]]
                return self._own(func(*args, **given))
        elif args[bounds] == rows:
            args[bounds] = self._count
            return self._own(func(*args, **given))
        return func(*args, **given)

    def _own(self, whole: torch.Tensor) -> torch.Tensor:
        return whole[self._start : self._stop]

"""A sequence whose items are made when they are asked for, so that only one is in memory."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

T = TypeVar("T")


class OneByOne(Sequence[T]):
    """``count`` items, the i-th of which is ``make(i)``; the one last made is kept, for several may ask in turn."""

    def __init__(self, count: int, make: Callable[[int], T]) -> None:
        self._count, self._make = count, make
        self._last: tuple[int, T] | None = None

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> T: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[T]: ...

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            places = range(self._count)[place]
            return OneByOne(len(places), lambda number: self[places[number]])
        number = range(self._count)[place]
        if self._last is None or self._last[0] != number:
            self._last = None  # before the next is made, not after
            self._last = (number, self._make(number))
        return self._last[1]

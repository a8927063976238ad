"""Who does independent pieces of a long step: this process, one after the other, or many somewhere else.

A piece is a function of a module, called with a handle to something large that all pieces share and with what is its
own. What is shared goes to each worker once. Answers come in the order of the questions, so a result never depends on
who was first.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
Q = TypeVar("Q")
R = TypeVar("R")
V = TypeVar("V")
H = TypeVar("H", bound=Hashable)
R_co = TypeVar("R_co", covariant=True)
T_co = TypeVar("T_co", covariant=True)


class Shared(Protocol[T_co]):
    """Something large that all workers have; a handle to it goes along with a question, or inside another shared."""

    @property
    def value(self) -> T_co:
        """The thing itself, to be read."""


class Answer(Protocol[R_co]):
    """What a worker was asked for."""

    def is_there(self) -> bool:
        """Whether the worker is free again."""

    def result(self) -> R_co:
        """Wait for it; raise what the function raised."""


class Workers(Protocol):
    """Some who work at the same time."""

    @property
    def count(self) -> int:
        """How many."""

    def share(self, value: T) -> Shared[T]:
        """Give ``value`` to all of them."""

    def ask(self, function: Callable[[Shared[T], Q], R], shared: Shared[T], question: Q) -> Answer[R]:
        """Have one of them call ``function(shared, question)``."""


class Here:
    """This process: it works when it is waited for."""

    count = 1

    def share(self, value: T) -> Shared[T]:
        return _Held(value)

    def ask(self, function: Callable[[Shared[T], Q], R], shared: Shared[T], question: Q) -> Answer[R]:
        return _Later(lambda: function(shared, question))


@dataclass(frozen=True)
class _Held(Generic[T]):
    value: T


class _Later(Generic[R]):
    def __init__(self, work: Callable[[], R]) -> None:
        self._work = work

    def is_there(self) -> bool:
        return False

    def result(self) -> R:
        return self._work()


HERE: Workers = Here()


def here() -> AbstractContextManager[Workers]:
    """Work in this process."""
    return nullcontext(HERE)


def in_order(
    workers: Workers, function: Callable[[Shared[T], Q], R], shared: Shared[T], questions: Iterable[Q]
) -> Iterator[R]:
    """The answers, each as soon as it and those before it are there; no more is asked ahead than keeps all busy."""
    waiting: deque[Answer[R]] = deque()
    for question in questions:
        waiting.append(workers.ask(function, shared, question))
        if len(waiting) > workers.count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class Foresight(Generic[H, Q, R]):
    """Answers one question after the other, while those who are free work at what will likely be asked next.

    ``pieces`` says what of a question several may do, and the answer is those to its pieces. What was worked at in vain
    changes nothing but the time that it took.
    """

    def __init__(
        self,
        workers: Workers,
        function: Callable[[Shared[T], Q], R],
        shared: Shared[T],
        pieces: Callable[[H], Sequence[Q]],
    ) -> None:
        self._workers, self._pieces = workers, pieces
        self._begin: Callable[[Q], Answer[R]] = lambda piece: workers.ask(function, shared, piece)
        self._asked: dict[H, list[Answer[R]]] = {}

    def answer(self, question: H, likely: Iterable[H]) -> list[R]:
        """The answer to ``question``; ``likely`` are the next ones, the most likely first, and may go on for long."""
        self._ask(question)
        busy = sum(not piece.is_there() for answer in self._asked.values() for piece in answer)
        for each in likely if busy < self._workers.count else ():
            busy += self._ask(each)
            if busy >= self._workers.count:
                break
        return [piece.result() for piece in self._asked.pop(question)]

    def _ask(self, question: H) -> int:
        """How many pieces of it were not asked for before."""
        if question in self._asked:
            return 0
        self._asked[question] = [self._begin(piece) for piece in self._pieces(question)]
        return len(self._asked[question])

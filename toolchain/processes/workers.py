"""Who does independent pieces of a long step: this process, one after the other, or many somewhere else.

A piece is a function of a module, called with something large that all pieces share and with what is its own. What is
shared goes to each worker once. Answers come in the order of the questions, so a result never depends on who was first.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, Protocol, TypeVar

S = TypeVar("S")
Q = TypeVar("Q")
R = TypeVar("R")
H = TypeVar("H", bound=Hashable)
R_co = TypeVar("R_co", covariant=True)


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

    def share(self, value: Any) -> Any:
        """Give ``value`` to all of them; what this returns stands for it in :meth:`ask`."""

    def ask(self, function: Callable[[Any, Q], R], shared: Any, question: Q) -> Answer[R]:
        """Have one of them call ``function(value, question)``."""


Joined = Callable[[], AbstractContextManager[Workers]]
"""Gets workers together, for a block."""


class Here:
    """This process: it works when it is waited for."""

    count = 1

    def share(self, value: Any) -> Any:
        return value

    def ask(self, function: Callable[[Any, Q], R], shared: Any, question: Q) -> Answer[R]:
        return _Later(lambda: function(shared, question))


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


def in_order(workers: Workers, function: Callable[[Any, Q], R], shared: Any, questions: Iterable[Q]) -> Iterator[R]:
    """The answers, each as soon as it and those before it are there; no more is asked ahead than keeps all busy."""
    waiting: deque[Answer[R]] = deque()
    for question in questions:
        waiting.append(workers.ask(function, shared, question))
        if len(waiting) > workers.count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class Foresight(Generic[H, R]):
    """Answers one question after the other, while those who are free work at what will likely be asked next.

    What was worked at in vain changes nothing but the time that it took.
    """

    def __init__(self, workers: Workers, function: Callable[[Any, H], R], shared: Any) -> None:
        self._workers, self._function, self._shared = workers, function, shared
        self._asked: dict[H, Answer[R]] = {}

    def answer(self, question: H, likely: Iterable[H]) -> R:
        """The answer to ``question``; ``likely`` are the next ones, the most likely first, and may go on for long."""
        self._ask(question)
        busy = sum(not answer.is_there() for answer in self._asked.values())
        for each in likely if busy < self._workers.count else ():
            busy += self._ask(each)
            if busy >= self._workers.count:
                break
        return self._asked.pop(question).result()

    def _ask(self, question: H) -> bool:
        """Whether it was not asked for before."""
        if question in self._asked:
            return False
        self._asked[question] = self._workers.ask(self._function, self._shared, question)
        return True

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from toolchain.processes.workers import HERE, Foresight, Here, Shared, Workers, in_order


class Several(Here):
    """Workers who begin at once, one after the other in this process; ``working`` are those who are not waited for."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[Any] = []
        self.working, self.most = 0, 0

    def ask(self, function: Callable[[Any, Any], Any], shared: Any, question: Any) -> Any:
        self.asked.append(question)
        self.working += 1
        self.most = max(self.most, self.working)
        return _Begun(self, function(shared, question))


class _Begun:
    def __init__(self, group: Several, found: Any) -> None:
        self._group, self._found = group, found

    def is_there(self) -> bool:
        return False

    def result(self) -> Any:
        self._group.working -= 1
        return self._found


def times(shared: Shared[int], question: int) -> int:
    return shared.value * question


def both(question: int) -> list[int]:
    return [question, -question]


def whole(question: int) -> list[int]:
    return [question]


@pytest.mark.parametrize("workers", [HERE, Several(1), Several(3), Several(100)])
def test_answers_come_in_the_order_of_the_questions(workers: Workers) -> None:
    assert list(in_order(workers, times, workers.share(2), range(20))) == list(range(0, 40, 2))


def test_no_more_is_asked_ahead_than_keeps_all_busy() -> None:
    workers = Several(3)
    questions = iter(range(1000))
    answers = in_order(workers, times, workers.share(1), questions)
    assert next(answers) == 0
    assert workers.most == 4  # one may wait in front of the three
    assert next(questions) == 4


def test_here_work_begins_when_it_is_waited_for() -> None:
    done: list[int] = []

    def note(shared: Shared[None], question: int) -> None:
        done.append(question)

    answers = in_order(HERE, note, HERE.share(None), range(3))
    next(answers)
    assert done == [0]


def test_who_is_free_works_at_what_is_likely_next() -> None:
    workers = Several(3)
    ahead = Foresight(workers, times, workers.share(10), whole)
    assert ahead.answer(1, iter([1, 2, 3, 4, 5])) == [10]
    assert workers.asked == [1, 2, 3]
    assert ahead.answer(3, iter([3, 4, 5])) == [30]  # it was asked already, and 2 is still worked at
    assert workers.asked == [1, 2, 3, 4]
    assert ahead.answer(9, iter([])) == [90]
    assert workers.asked == [1, 2, 3, 4, 9]


def test_one_who_works_here_guesses_nothing() -> None:
    def endless() -> Iterator[int]:
        raise AssertionError("nobody has time for it")
        yield 0

    assert Foresight(HERE, times, HERE.share(10), whole).answer(1, endless()) == [10]


def test_what_fails_ahead_of_its_time_is_raised_when_it_is_asked_for() -> None:
    def fails(shared: Shared[None], question: int) -> int:
        if question == 2:
            raise ValueError("two")
        return question

    ahead = Foresight(HERE, fails, HERE.share(None), whole)
    assert ahead.answer(1, iter([2])) == [1]
    with pytest.raises(ValueError, match="two"):
        ahead.answer(2, iter([]))


def test_several_do_the_pieces_of_one_question() -> None:
    workers = Several(3)
    ahead = Foresight(workers, times, workers.share(10), both)
    assert ahead.answer(1, iter([1, 2, 3])) == [10, -10]
    assert workers.asked == [1, -1, 2, -2]  # whoever is free takes up another question, all of it
    assert ahead.answer(2, iter([])) == [20, -20]
    assert workers.asked == [1, -1, 2, -2]

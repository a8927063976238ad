"""What is replaced comes back as it was, whatever happens meanwhile."""

import pytest

from exporters.replaced import entries_replaced, replaced


class Thing:
    @staticmethod
    def name() -> str:
        return "its own"


def test_it_is_there_in_the_block_alone() -> None:
    before = vars(Thing)["name"]
    with replaced(Thing, "name", lambda: "another"):
        assert Thing.name() == "another"
    assert vars(Thing)["name"] is before
    assert Thing().name() == "its own"


def test_it_comes_back_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), replaced(Thing, "name", lambda: str(1 // 0)):
        Thing.name()
    assert Thing.name() == "its own"


def test_what_is_not_there_is_not_replaced() -> None:
    with pytest.raises(KeyError), replaced(Thing, "size", 1):
        pass
    assert not hasattr(Thing, "size")


def test_entries_come_back_and_new_ones_go() -> None:
    table = {"there": 1, "other": 2}
    with pytest.raises(ZeroDivisionError), entries_replaced(table, {"there": 3, "new": 4}):
        assert table == {"there": 3, "other": 2, "new": 4}
        raise ZeroDivisionError
    assert table == {"there": 1, "other": 2}

"""What is cut out of a user's file: what a class reads there, and nothing that runs only as a program."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from toolchain.bisection.sources import Cut, NotDescribable


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Callable[[bytes], str]]:
    """Imports a file of these bytes; its module's name."""
    name = "cut_out_of"

    def imported(source: bytes) -> str:
        path = tmp_path / f"{name}.py"
        path.write_bytes(source)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
        return name

    yield imported
    sys.modules.pop(name, None)


def cut_out(module: str, name: str = "Net") -> str:
    cut = Cut()
    cut.add(module, name)
    return "\n".join(cut.statements)


@pytest.mark.parametrize(
    "ending",
    [
        'if __name__ == "__main__":\n    {}\n',
        'if "__main__" == __name__ and True:\n    {}\n',
        'try:\n    if __name__ == "__main__":\n        {}\nfinally:\n    pass\n',
    ],
)
@pytest.mark.parametrize("body", ["return x", "return global_x()"])
def test_what_runs_as_a_program_is_not_taken(
    theirs: Callable[[bytes], str], ending: str, body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    head = f"class Net:\n    def forward(self, x):\n        {body}\n"
    program = 'x = global_x = 1; open("MAIN_RAN", "w")'
    text = cut_out(theirs((head + ending.format(program)).encode()))
    assert text == head.rstrip("\n")
    exec(text, {"__name__": "__main__"})
    assert not (tmp_path / "MAIN_RAN").exists()


def test_a_name_that_the_program_alone_binds(theirs: Callable[[bytes], str]) -> None:
    module = theirs(b'if __name__ == "__main__":\n    Net = 1\n')
    with pytest.raises(NotDescribable, match="not bound at the top"):
        cut_out(module)


def test_names_of_a_function_are_not_those_at_the_top(theirs: Callable[[bytes], str]) -> None:
    source = """
x = print("not wanted")
i = print("not wanted")
width = 3
depth = 4
total = 0
def scaled(x): return x * depth
class Net:
    width = width
    def forward(self, x):
        global total
        total += 1
        return [scaled(i) for i in x]
"""
    text = cut_out(theirs(source.encode()))
    assert "not wanted" not in text
    made: dict[str, object] = {}
    exec(text, made)
    exec("said = Net.width, Net().forward([1, 2]), total", made)
    assert made["said"] == (3, [4, 8], 1)


def test_a_file_in_its_own_encoding_with_form_feeds(theirs: Callable[[bytes], str]) -> None:
    source = '# -*- coding: latin-1 -*-\r\n\f\r\nNAME = "größe"\r\n\x0c\nclass Net:\n    word = NAME\x0c\n    end = 1\n'
    made: dict[str, object] = {}
    exec(cut_out(theirs(source.encode("latin-1"))), made)
    exec("said = Net.word, Net.end", made)
    assert made["said"] == ("größe", 1)

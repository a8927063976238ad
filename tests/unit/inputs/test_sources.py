from pathlib import Path

import pytest

from toolchain.errors import BadUsage
from toolchain.inputs import sources

RECIPE = """
import sibling
from toolchain.recipes.digits import recipe
small = recipe
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(RECIPE)
    (tmp_path / "sibling.py").write_text("width = 1\n")
    (tmp_path / "unrelated.py").write_text("width = 1\n")
    return tmp_path


def test_the_digest_follows_the_file_and_what_it_imports_beside_it(folder: Path) -> None:
    name = f"{folder / 'mine.py'}:recipe"
    first = sources.code_digest(name)
    assert sources.code_digest(name) == first
    (folder / "unrelated.py").write_text("width = 2\n")
    assert sources.code_digest(name) == first
    (folder / "sibling.py").write_text("width = 2\n")
    second = sources.code_digest(name)
    assert second != first
    (folder / "mine.py").write_text(RECIPE + "# more\n")
    assert sources.code_digest(name) not in (first, second)


def test_the_recipes_of_nnx_are_named_without_a_path() -> None:
    for name in sources.RECIPES:
        assert sources.recipe_named(name).name == name
        assert sources.absolute(name) == name
        assert len(sources.code_digest(name)) == 64


def test_a_windows_path_is_no_code() -> None:
    assert not sources.is_recipe(r"C:\\data\\x.npz")


def test_a_name_that_is_nothing_lists_the_recipes() -> None:
    with pytest.raises(BadUsage) as caught:
        sources.recipe_named("mnist")
    assert "digits, cifar10, sst2" in caught.value.do

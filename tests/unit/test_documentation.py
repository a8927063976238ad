"""The pages say what the code says: what is generated is fresh, and nothing is left out."""

import re
from pathlib import Path

import pytest

from docs import generate_commands
from docs.plain_roles import as_markdown
from toolchain.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs"
# written by people, for a purpose: the reference lists every command anyhow
GUIDES = (ROOT / "README.md", PAGES / "tutorial.md", *(PAGES / "how-to").glob("*.md"))


def test_the_reference_of_commands_is_what_help_says() -> None:
    assert generate_commands.PAGE.read_text(encoding="utf-8") == generate_commands.text(), "run `make commands`"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_place_in_the_guides(name: str) -> None:
    assert any(f"nnx {name}" in page.read_text(encoding="utf-8") for page in GUIDES)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_from_python(name: str) -> None:
    assert f"`nnx {name}" in (PAGES / "library.md").read_text(encoding="utf-8")


def test_every_room_is_in_the_reference_of_the_library() -> None:
    named = {
        name for page in (PAGES / "api").glob("*.md") for name in re.findall(r"^::: (\S+)", page.read_text(), re.M)
    }
    rooms = {f"toolchain.{path.parent.name}" for path in (ROOT / "toolchain").glob("*/__init__.py")}
    assert named >= {"exporters", "runtimes", *rooms} - {"toolchain.cli"}


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("See :func:`sqnr`.", "See `sqnr`."),
        (":mod:`.metrics`, the :mod:`~toolchain.bench.group`", "`metrics`, the `toolchain.bench.group`"),
        ("runs :mod:`groups <toolchain.bench.group>` of rows", "runs `toolchain.bench.group` of rows"),
        ("Plain ``code``, a: `b`.", "Plain ``code``, a: `b`."),
        ("Errors.\n\nBase\n├── One    first\n└── Two", "Errors.\n\n    Base\n    ├── One    first\n    └── Two"),
    ],
)
def test_docstrings_become_markdown(written: str, shown: str) -> None:
    assert as_markdown(written) == shown

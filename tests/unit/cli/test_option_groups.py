from dataclasses import FrozenInstanceError, dataclass

import click
import pytest
from click.testing import CliRunner

from toolchain.cli import options
from toolchain.cli.option_groups import group, option


@dataclass(frozen=True, kw_only=True)
class Paint:
    """How to paint."""

    colour: str = option("--colour", default="red", show_default=True, help="Of the wall.")
    coats: int | None = option("--coat", type=click.IntRange(min=1), help="How many.")
    dry: bool = option("--dry/--wet", default=True, help="When it is left.")

    def __post_init__(self) -> None:
        if self.colour == "none":
            raise click.UsageError("Paint has a colour.")


def painted(*arguments: str) -> tuple[int, str, list[tuple[str, Paint, bool]]]:
    """Run a command with that group between an argument and an option: exit code, output, what it was called with."""
    called = []

    @click.command()
    @click.argument("wall")
    @group("paint", Paint)
    @click.option("--sign", is_flag=True, help="By the painter.")
    def command(wall: str, paint: Paint, sign: bool) -> None:
        options.refuse(("coats", "sign"), "on glass") if wall == "glass" else None
        called.append((wall, paint, sign))

    ended = CliRunner().invoke(command, arguments)
    return ended.exit_code, ended.output, called


def test_the_command_receives_one_frozen_value() -> None:
    code, _, ((wall, paint, sign),) = painted("north", "--coat", "2", "--wet")
    assert (code, wall, sign) == (0, "north", False)
    assert paint == Paint(colour="red", coats=2, dry=False)
    with pytest.raises(FrozenInstanceError):
        paint.coats = 3  # type: ignore[misc]


def test_help_lists_a_groups_options_where_it_stands() -> None:
    _, shown, _ = painted("--help")
    assert [line.split()[0] for line in shown.splitlines() if line.startswith("  --")] == [
        "--colour", "--coat", "--dry", "--sign", "--help",
    ]  # fmt: skip
    assert "Of the wall.  [default: red]" in shown


def test_what_was_typed_is_known() -> None:
    code, said, _ = painted("glass", "--coat", "2", "--sign")
    assert code == 2
    assert "--coat, --sign would do nothing on glass." in said
    assert painted("glass", "--colour", "blue")[0] == 0


def test_a_group_is_checked_when_it_is_made() -> None:
    code, said, called = painted("north", "--colour", "none")
    assert (code, called) == (2, [])
    assert "Paint has a colour." in said
    assert "Usage: " in said

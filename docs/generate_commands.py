"""Writes commands.md, the reference of all commands, from what ``--help`` says. A test fails when it is stale."""

from pathlib import Path

from click.testing import CliRunner

from toolchain.cli import COMMANDS, nnx

PAGE = Path(__file__).with_name("commands.md")
_WIDTH = 90  # characters that fit beside the navigation
_HEAD = """\
# Commands

What `nnx COMMAND --help` says. This page is made by `make commands`; a test fails when it is stale. Results go to
stdout, progress and warnings to stderr, and every command has `--json`.
"""


def text() -> str:
    """The whole page."""
    return "\n".join([_HEAD, _section(), *(_section(name) for name in COMMANDS)])


def _section(*command: str) -> str:
    """The help of ``nnx`` itself, or of one command, under its heading."""
    shown = CliRunner().invoke(
        nnx, [*command, "--help"], prog_name="nnx", terminal_width=_WIDTH, catch_exceptions=False
    )
    return f"## {' '.join(('nnx', *command))}\n\n```text\n{shown.output}```\n"


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")

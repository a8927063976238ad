"""The only place that draws: results on stdout, progress and warnings on stderr."""

import contextlib
import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from toolchain import strict_json
from toolchain.legible import cell, legible, sentence
from toolchain.progress import Bar, Board, Progress
from toolchain.streams import results

_PLAIN_LINE_EVERY_S = 5.0
_COLUMN_GAP = 2


class LiveProgress(Progress):
    """Bars on a terminal; on a pipe or in a log a plain line at the start, every few seconds, and at the end."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)

    def note(self, text: str) -> None:
        self._console.print(f"[green]·[/] {escape(sentence(text))}", soft_wrap=True)

    def warn(self, text: str) -> None:
        self._console.print(f"[yellow]![/] {escape(sentence(text))}", soft_wrap=True)

    def bar(self, title: str, total: int) -> Bar:
        if self._console.is_terminal:
            return _DrawnBar(self._console, title, total)
        return _PlainBar(self._console, title, total)

    def board(self, title: str, headings: Sequence[str], rows: Sequence[str]) -> Board:
        if self._console.is_terminal:
            return _DrawnBoard(self._console, title, headings, rows)
        return _PlainBoard(self._console, title)


class _DrawnBoard(Board):
    """Stands while the rounds go and is gone afterwards: the result has a table of its own."""

    def __init__(self, console: Console, title: str, headings: Sequence[str], rows: Sequence[str]) -> None:
        self._title, self._headings = title, headings
        self._cells: dict[str, Sequence[str]] = {row: ["…"] * len(headings) for row in rows}
        self._state = "first round"
        self._live = Live(console=console, transient=True, auto_refresh=False)

    def fill(self, row: str, *figures: str) -> None:
        self._cells[row] = figures

    def advance(self, done: int, planned: int, left_s: float) -> None:
        self._state = _rounds(done, planned, left_s)
        self._live.update(self._table(), refresh=True)

    def __enter__(self) -> Board:
        self._live.start()
        self._live.update(self._table(), refresh=True)
        return self

    def __exit__(self, *ignored: object) -> None:
        self._live.stop()

    def _table(self) -> Table:
        caption = f"  {self._title}: {self._state}"
        table = Table(title=caption, title_justify="left", title_style="", box=None, header_style="dim", pad_edge=True)
        table.add_column("")
        for heading in self._headings:
            table.add_column(heading, justify="right")
        for row, cells in self._cells.items():
            table.add_row(escape(cell(row)), *map(escape, map(cell, cells)))
        return table


class _PlainLines:
    """Where nothing can be drawn over: a line about ``title`` every few seconds at most, and one at the end."""

    def __init__(self, console: Console, title: str) -> None:
        self._console, self._title, self._shown_at = console, title, time.monotonic()

    def say_seldom(self, state: str) -> None:
        if time.monotonic() - self._shown_at > _PLAIN_LINE_EVERY_S:
            self.say(state)

    def say(self, state: str) -> None:
        self._shown_at = time.monotonic()
        self._console.print(escape(sentence(f"  {self._title}: {state}".rstrip())), soft_wrap=True)


class _PlainBoard(Board):
    def __init__(self, console: Console, title: str) -> None:
        self._lines, self._state = _PlainLines(console, title), "no row runs"

    def advance(self, done: int, planned: int, left_s: float) -> None:
        self._state = _rounds(done, planned, left_s)
        self._lines.say_seldom(self._state)

    def __exit__(self, *ignored: object) -> None:
        self._lines.say(self._state)


def _rounds(done: int, planned: int, left_s: float) -> str:
    return f"round {done} of {planned}" + (f", {left_s:.0f} s left" if left_s >= 1 else "")


class _DrawnBar(Bar):
    def __init__(self, console: Console, title: str, total: int) -> None:
        self._rich = RichProgress(
            TextColumn("  {task.description:<16}"), BarColumn(28), MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(elapsed_when_finished=True), console=console, transient=False,
        )  # fmt: skip
        self._task = self._rich.add_task(escape(cell(title)), total=total, figures="")

    def advance(self, amount: int = 1, **figures: str) -> None:
        self._rich.update(self._task, advance=amount, figures=escape(cell(_figures(figures))))

    def __enter__(self) -> Bar:
        self._rich.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self._rich.stop()


class _PlainBar(Bar):
    def __init__(self, console: Console, title: str, total: int) -> None:
        self._lines, self._total, self._done, self._latest = _PlainLines(console, title), total, 0, ""

    def advance(self, amount: int = 1, **figures: str) -> None:
        self._done += amount
        self._latest = _figures(figures) or self._latest
        self._lines.say_seldom(self._state)

    def __exit__(self, *ignored: object) -> None:
        self._lines.say(self._state)

    @property
    def _state(self) -> str:
        return f"{self._done}/{self._total} {self._latest}"


def _figures(figures: dict[str, str]) -> str:
    return "  ".join(f"{name} {value}" for name, value in figures.items())


def results_width() -> int | None:
    """The columns of the terminal that results go to; None where they go elsewhere."""
    stream = results()
    if not stream.isatty():
        return None
    with contextlib.suppress(ValueError):
        return int(os.environ["COLUMNS"]) if "COLUMNS" in os.environ else os.get_terminal_size(stream.fileno()).columns
    return None


def _output(width: int | None = None) -> Console:
    return Console(file=results(), width=width or results_width(), highlight=False, emoji=False)


def print_result(text: str) -> None:
    """Write a result to stdout as it is, but for what a terminal would obey."""
    stream, shown = results(), legible(text, lines=True)
    stream.write(shown if shown.endswith("\n") else shown + "\n")
    stream.flush()


def print_text(text: str) -> None:
    """Write a sentence to stdout; on a terminal its lines break between words."""
    if results().isatty():
        _output().print(legible(text, lines=True), markup=False)
    else:
        print_result(text)


def print_json(facts: Mapping[str, Any]) -> None:
    """Print JSON that every reader takes: what is NaN or infinite becomes null."""
    print_result(json.dumps(strict_json.finite(facts), allow_nan=False))


def print_table(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    struck: Collection[int] = (),
    droppable: Sequence[str] = (),
) -> None:
    """Draw one table on stdout; columns but the first are right-aligned, ``struck`` rows are struck through.

    Numbers are never cropped: on a terminal that is too narrow the ``droppable`` columns are left out in their order,
    and named. A pipe gets all of them.
    """
    console = _output()
    title, rows = cell(title), [[cell(each) for each in row] for row in rows]
    kept = list(range(len(headings)))
    widths = [max(cell_len(row[index]) for row in (headings, *rows)) for index in kept]
    dropped = []
    for name in droppable:
        if not console.is_terminal or sum(widths[index] + _COLUMN_GAP for index in kept) <= console.width:
            break
        kept.remove(headings.index(name))
        dropped.append(name)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _COLUMN_GAP, 0, 0))
    for index in kept:
        table.add_column(headings[index], justify="left" if index == 0 else "right", no_wrap=True)
    for number, row in enumerate(rows):
        table.add_row(*(escape(row[index]) for index in kept), style="strike dim" if number in struck else "")
    needed = sum(widths[index] + _COLUMN_GAP for index in kept)
    wide = _output(max(console.width, needed))
    wide.print(f"[bold]{escape(title)}[/]")
    wide.print(table)
    if dropped:
        wide.print(f"[dim]Not shown for want of width: {', '.join(dropped)}.[/]")


def print_error(what: str, do: str) -> None:
    """Two sentences on stderr."""
    shown = f"[bold red]nnx:[/] {escape(sentence(what))}\n     {escape(sentence(do))}"
    Console(stderr=True, highlight=False).print(shown, soft_wrap=True)

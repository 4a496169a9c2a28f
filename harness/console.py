"""What the person at the terminal sees: one line and one bar per stage, and the final table."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from harness.protocols import Progress as OnProgress  # rich has a Progress of its own

console = Console(highlight=False, soft_wrap=True)


@contextmanager
def stage(name: str, detail: str = "") -> Iterator[OnProgress]:
    """Show a bar while the stage runs and one line when it is done. Yields `progress(done, total)`; it may stay unused."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    started = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(f"{name:<12} {detail}", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
    console.print(f"[green]✓[/] {name:<12} {detail}  [dim]{time.monotonic() - started:.1f} s[/]")


def say(line: str, style: str = "") -> None:
    """Print one line."""
    console.print(line, style=style)


def print_table(frame: pd.DataFrame, title: str) -> None:
    """Print measured beside simulated, in as many tables as the width asks for; each repeats the names and the measured values.

    frame: text; columns metric, measured, then two per simulator and track: its value and its error in per cent.
    """
    names = list(frame.columns)
    pairs = [names[i : i + 2] for i in range(2, len(names), 2)] or [[]]
    room = console.width - sum(_width(frame[name]) + 3 for name in names[:2])
    while pairs:
        taken = [pairs.pop(0)]
        while pairs and sum(_pair_width(frame, pair) for pair in [*taken, pairs[0]]) <= room:
            taken.append(pairs.pop(0))
        _print_part(frame, taken, title)


def _print_part(frame: pd.DataFrame, pairs: list[list[str]], title: str) -> None:
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column(str(frame.columns[0]), no_wrap=True)
    table.add_column(str(frame.columns[1]), justify="right")
    cells = [frame[name].tolist() for name in frame.columns[:2]]
    for pair in filter(None, pairs):
        table.add_column(pair[0].replace(":", "\n"), justify="right")
        table.add_column("error %", justify="right")
        cells += [frame[name].tolist() for name in pair]
    for row in zip(*cells, strict=True):
        table.add_row(*("–" if pd.isna(value) else str(value) for value in row))
    console.print(table)


def _pair_width(frame: pd.DataFrame, pair: list[str]) -> int:
    heads = [max(map(len, pair[0].split(":"))), len("error %")]
    return sum(max(_width(frame[name], head=False), head) + 3 for name, head in zip(pair, heads, strict=True))


def _width(column: pd.Series, *, head: bool = True) -> int:
    return max(len(str(column.name)) if head else 0, *(len(str(value)) for value in column))

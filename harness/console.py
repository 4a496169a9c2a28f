"""What the person at the terminal sees: one line and one bar per stage, and the final table."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

OnProgress = Callable[[int, int], None]

console = Console(highlight=False, soft_wrap=True)


@contextmanager
def stage(name: str, detail: str = "") -> Iterator[OnProgress]:
    """Show a bar while the stage runs and one line when it is done. Yields `progress(done, total)`; it may stay unused."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    started = time.monotonic()
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(f"{name:<12} {detail}", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
    console.print(f"[green]✓[/] {name:<12} {detail}  [dim]{time.monotonic() - started:.1f} s[/]")


def say(line: str, style: str = "") -> None:
    """Print one line."""
    console.print(line, style=style)


def print_table(frame: pd.DataFrame, title: str) -> None:
    """Print a table, its first column being names; a missing value shows as a dash."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for position, column in enumerate(frame.columns):
        table.add_column(str(column), justify="right" if position else "left")
    for row in frame.itertuples(index=False):
        table.add_row(*("–" if pd.isna(value) else str(value) for value in row))
    console.print(table)

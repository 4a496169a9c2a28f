"""What the person at the terminal sees: one bar and one line per stage, and the final table."""

import os
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from results.project.progress import Progress
from results.project.progress_bar import Lines, shown

if TYPE_CHECKING:  # pandas takes long to import
    import pandas as pd

WIDEST = 100  # columns of the final table

console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal and "COLUMNS" not in os.environ:
    console.width = WIDEST  # a file has no width of its own


@contextmanager
def stage(name: str, detail: str = "") -> Iterator[Progress]:
    """Show how far the stage is while it runs (see shown), and one line when it is done."""
    started = time.monotonic()
    with shown(f"{name:<12} {detail}".rstrip(), console) as progress:
        yield progress
    console.print(f"[green]✓[/] {name:<12} {detail}  [dim]{time.monotonic() - started:.1f} s[/]")


def stages(name: str) -> Progress:
    """For work that is many stages, one after another: a line now and then between theirs (see Lines)."""
    return Lines(name, console)


def say(line: str, style: str = "") -> None:
    """Print one line."""
    console.print(line, style=style)


def print_table(frame: "pd.DataFrame", title: str, note: str = "") -> None:
    """Print one table, at most `WIDEST` columns wide. Where there is less room, the frame's last columns are left out, and it says which.

    frame: text; the first column names the rows. Heads may have several lines. note: how to read it.
    """
    room, kept = min(WIDEST, console.width), len(frame.columns)
    while kept > 2 and _width(_table(frame, kept)) > room:
        kept -= 1
    console.print(title, style="bold")
    console.print(_table(frame, kept))
    left_out = [" ".join(str(name).split()) for name in frame.columns[kept:]]
    more = f"No room for {', '.join(left_out)}: the page has them." if left_out else ""
    for line in textwrap.wrap(" ".join(filter(None, (note, more))), room):
        console.print(line, style="dim")


def _table(frame: "pd.DataFrame", kept: int) -> Table:
    """The first `kept` columns of a frame, the first row in bold."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, header_style="bold")
    for number, name in enumerate(frame.columns[:kept]):
        table.add_column(str(name), justify="right" if number else "left", no_wrap=True)
    for number, row in enumerate(frame.iloc[:, :kept].itertuples(index=False)):
        table.add_row(*map(str, row), style="" if number else "bold")
    return table


def _width(table: Table) -> int:
    return Measurement.get(console, console.options.update(width=10 * WIDEST), table).maximum

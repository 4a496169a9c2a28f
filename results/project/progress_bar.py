"""Progress before people's eyes: a bar with a remaining time on a terminal, a line now and then elsewhere, nothing for short work there."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from results.project.progress import Clock, Progress, Remaining

SHORT = 10.0  # s between two lines, and before the first: what ends sooner prints none
STEP = 0.1  # of the work, after which there is a line
LONG = 60.0  # s after which there is a line, however little was done


@contextmanager
def shown(name: str, console: Console | None = None, *, clock: Clock = time.monotonic) -> Iterator[Progress]:
    """Show how far the work is that is done inside. Yields what is to be called with (done, total); it may stay unused.

    console: where; stderr by default. On a terminal a bar, gone when the work ends, else lines (see Lines).
    """
    where = console or Console(stderr=True, highlight=False, soft_wrap=True)
    if not where.is_terminal:
        yield Lines(name, where, clock)
        return
    remaining = Remaining(clock)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), _Left(remaining), TimeElapsedColumn())
    with Bars(*columns, console=where, transient=True) as bars:
        task = bars.add_task(name, total=None)

        def progress(done: float, total: float) -> None:
            remaining(done, total)
            bars.update(task, completed=done, total=total)

        yield progress


class Lines:
    """A line now and then: one in `SHORT` seconds at most, after each `STEP` of the work or each `LONG` seconds, and one at the end."""

    def __init__(self, name: str, console: Console, clock: Clock = time.monotonic) -> None:
        self._name, self._console, self._clock = name, console, clock
        self._remaining = Remaining(clock)
        self._last, self._said = clock(), 0.0  # when the last line was printed, and the share that it said

    def __call__(self, done: float, total: float) -> None:
        """See Progress."""
        self._remaining(done, total)
        share, gone = self._remaining.share or 0.0, self._clock() - self._last
        if share < self._said:  # other work has begun
            self._said = 0.0
        ended = share >= 1 and self._said > 0
        if ended or (gone >= SHORT and 0 < share < 1 and (share - self._said >= STEP or gone >= LONG)):
            self._console.print(f"{self._name}: {self._remaining}", markup=False)
            self._last, self._said = self._clock(), 0.0 if ended else share


class _Left(ProgressColumn):
    """How much is done, and about how long the rest takes."""

    def __init__(self, remaining: Remaining) -> None:
        super().__init__()
        self._remaining = remaining

    def render(self, task: Task) -> Text:
        """See ProgressColumn."""
        return Text(str(self._remaining), style="progress.remaining")

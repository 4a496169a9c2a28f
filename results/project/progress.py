"""How far long work is, and about how long it will still take. progress_bar.py shows it; `each` is for work that is a loop.

Whoever does the work takes a `Progress` and calls it; whoever has a terminal gives one (`shown` in progress_bar.py).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
Progress = Callable[[float, float], None]  # called with how much is done and how much there is in all, in any unit
Clock = Callable[[], float]  # s since some moment

MINUTES_FROM, HOURS_FROM = 55.0, 90 * 60.0  # s that are said in minutes, in hours


def each(items: Sequence[T], progress: Progress | None, *, weight: Callable[[T], float] = lambda item: 1.0) -> Iterator[T]:
    """The items. `progress` is told what is done when an item is taken, which is when the one before it has ended, and at the end.

    weight: how much work an item is beside the others, >= 0, such as its rows.
    """
    if progress is None:
        yield from items
        return
    weights = [weight(item) for item in items]
    total, done = sum(weights), 0.0
    for item, work in zip(items, weights, strict=True):
        progress(done, total)
        yield item
        done += work
    progress(total, total)


class Remaining:
    """What is left of some work, at the pace since it was first told of. Where less is done than before, other work has begun."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        """clock: any moment is its zero."""
        self._clock = clock
        self._done, self._total = 0.0, 0.0
        self._told = clock()  # when, the last time
        self._first: tuple[float, float] | None = None  # when the work was first told of, and what was done by then

    def __call__(self, done: float, total: float) -> None:
        """See Progress."""
        self._told = self._clock()
        if self._first is None or done < self._done:
            self._first = self._told, done
        self._done, self._total = done, total

    @property
    def share(self) -> float | None:
        """What is done, of 1; None: it is not known how much there is."""
        return None if self._total <= 0 else self._done / self._total

    @property
    def seconds(self) -> float | None:
        """About how long it will still take, s >= 0; None where nothing is done by which it could be told."""
        began, before = self._first or (self._told, 0.0)
        if self._done <= before or self._told <= began:
            return None
        needed = (self._told - began) * (self._total - self._done) / (self._done - before)
        return max(0.0, needed - (self._clock() - self._told))  # time passes while nothing new is told

    def __str__(self) -> str:
        """Such as '40 %, about 3 min left'; '' where nothing is known."""
        if self.share is None:
            return ""
        seconds = self.seconds
        more = "" if seconds is None or self.share >= 1 else f", {left(seconds)}"
        return f"{int(100 * self.share)} %{more}"


def left(seconds: float) -> str:
    """About how long something will still take, in the roundest words that are right."""
    if seconds < 5:
        return "a few seconds left"
    if seconds < MINUTES_FROM:
        return f"about {5 * round(seconds / 5)} s left"
    if seconds < HOURS_FROM:
        return f"about {max(1, round(seconds / 60))} min left"
    return f"about {seconds / 3600:.1f} h left"

"""Release: when a request becomes due that no clock sends, but the end of another one.

In an open loop every arrival is known before the start. Here the first requests have arrivals, and an end makes others due. The client and
our simulator ask the same Release, the one with ends as they were read, the other with simulated ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, Protocol


class Due(NamedTuple):
    """A request by its place in the trace, and when it is to be sent: its arrival, s since the trace's start."""

    time: float
    place: int


class Release(Protocol):
    """What becomes due when. It has a state: one for each replay."""

    @property
    def first(self) -> Sequence[Due]:
        """What is due whatever ends, by time."""
        ...

    def ended(self, place: int, time: float) -> Sequence[Due]:
        """What the end of a request, at this time, makes due: then or later. Call it once a request, whether it was answered or failed."""
        ...


@dataclass(frozen=True, kw_only=True)
class ClosedLoop:
    """`concurrency` slots; a slot that becomes free takes the next request of the trace at once (Schroeder et al., "Open versus closed: a
    cautionary tale", NSDI 2006).

    ramp: s over which the slots take their first request, evenly. duration: s after which no slot takes another; None: to the trace's end.
    Raises ValueError for no slots and negative times.
    """

    concurrency: int
    ramp: float = 0.0
    duration: float | None = None

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ValueError(f"a closed loop keeps at least 1 request in flight, got a concurrency of {self.concurrency}")
        if not self.ramp >= 0:
            raise ValueError(f"a closed loop's ramp must be >= 0 s, got {self.ramp}")

    def over(self, requests: int) -> "Slots":
        """The loop over a trace of so many requests."""
        starts = [self.ramp * slot / self.concurrency for slot in range(min(self.concurrency, requests))]
        return Slots(starts, requests, until=inf if self.duration is None else self.duration)


class Slots:
    """A closed loop under way: a Release. starts: when each slot takes its first request, s, ascending; until: as ClosedLoop's duration."""

    def __init__(self, starts: Sequence[float], requests: int, *, until: float = inf) -> None:
        self.first = [Due(start, place) for place, start in enumerate(starts)]
        self._requests, self._until = requests, until
        self._next = len(self.first)

    def ended(self, place: int, time: float) -> Sequence[Due]:
        """See Release. Whichever request ended, the next in the trace's order is due."""
        if self._next >= self._requests or time > self._until:
            return ()
        self._next += 1
        return (Due(time, self._next - 1),)

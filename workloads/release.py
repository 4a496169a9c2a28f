"""Release: when a request becomes due that no clock sends, but the end of another one.

In an open loop every arrival is known before the start. Here the first requests have arrivals, and an end makes others due: in a closed
loop the next one, whichever ended; in a session those that waited for it, after a delay. The client and our simulator ask the same Release,
the one with ends as they were read, the other with simulated ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, Protocol

from workloads.trace import Trace


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

    def given_up(self, place: int) -> Sequence[int]:
        """The places of the requests that never become due because this one failed. Call it before `ended`."""
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
    """A closed loop under way, a Release: a failed request leaves its slot like any other.

    starts: when each slot takes its first request, s, ascending; until: as ClosedLoop's duration.
    """

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

    def share(self, number: int, of: int) -> "Slots":
        """Every `of`-th slot from this number on, over every `of`-th request: as many loops are this one, where each has a slot."""
        starts = [due.time for due in self.first[number::of]]
        return Slots(starts, len(range(number, self._requests, of)), until=self._until)

    def given_up(self, place: int) -> Sequence[int]:
        """See Release: none."""
        return ()


class Turns:
    """A trace with sessions under way, a Release: a request that waits for others is due `delay` seconds after the last of them ended."""

    def __init__(self, trace: Trace) -> None:
        requests = list(trace)
        places = {request.request_id: place for place, request in enumerate(requests)}
        self.first = [Due(request.arrival, place) for place, request in enumerate(requests) if not request.after]
        self._requests = requests
        self._waits = [len(set(request.after)) for request in requests]  # for how many it still waits
        self._ready = [0.0] * len(requests)  # s: the latest end of those that have ended
        self._followers: list[list[int]] = [[] for _ in requests]
        self._never: set[int] = set()
        for place, request in enumerate(requests):
            for other in set(request.after):
                self._followers[places[other]].append(place)

    def ended(self, place: int, time: float) -> Sequence[Due]:
        """See Release."""
        due = []
        for follower in self._followers[place]:
            self._waits[follower] -= 1
            self._ready[follower] = max(self._ready[follower], time)
            if not self._waits[follower] and follower not in self._never:
                due.append(Due(self._ready[follower] + self._requests[follower].delay, follower))
        return due

    def given_up(self, place: int) -> Sequence[int]:
        """See Release: all that wait for it, and for those."""
        lost, found = [place], []
        while lost:
            for follower in self._followers[lost.pop()]:
                if follower not in self._never:
                    self._never.add(follower)
                    found.append(follower)
                    lost.append(follower)
        return sorted(found)

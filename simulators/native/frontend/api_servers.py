"""ApiServers: a station at work before one engine. Requests wait behind the tokens of others, and tokens behind requests.

All requests that are ready before a step's tokens are known when the step ends, so its job is done at that moment: those requests go
first, and what comes later cannot be ready earlier. That holds of a request, too, that the end of another makes due (a Release): it comes
after those tokens are with their clients. Of a request and a step ready at one moment the request goes first.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from math import inf

import numpy as np

from simulators.native.frontend.station import Station, StationUse
from simulators.native.sequence import Batch, Sequence


class ApiServers:
    """The servers of a station. sequences: all that the engine will serve, by when they are ready (`arrival`), but for those that
    `released` returns: the ones that the end of a sequence makes ready.
    """

    def __init__(
        self, station: Station, sequences: Iterable[Sequence], released: Callable[[Sequence], Iterable[Sequence]] | None = None
    ) -> None:
        self._station, self._sequences, self._released = station, list(sequences), released
        self._free = [-inf] * station.servers  # s; when each server has done all that it has begun
        self._busy = [0.0] * station.servers  # s that each has worked
        self._next = list(range(station.servers))  # place of the request that each serves next; its others follow `servers` places apart
        self._given = list(range(station.servers))  # place of the request that is next to reach the scheduler
        for place, sequence in enumerate(self._sequences):
            sequence.server = place % station.servers

    def reached(self, now: float) -> Iterator[Sequence]:
        """Those that reach the scheduler by `now` and have not been given before, in order. Exhaust it."""
        for server in range(self._station.servers):
            self._serve(server, now)
        while served := [self._given[server] for server in range(self._station.servers) if self._given[server] < self._next[server]]:
            first = min(served, key=lambda place: (self._sequences[place].reached, place))
            if self._sequences[first].reached > now:
                break
            self._given[self._sequences[first].server] += self._station.servers
            yield self._sequences[first]

    def following(self) -> float:
        """When the next request reaches the scheduler if no step ends before, s; inf: there is none."""
        return min(self._following(server) for server in range(self._station.servers))

    def step_ended(self, batch: Batch, end: float) -> None:
        """A step has ended: its new tokens get the times at which they are with their clients."""
        streamed = [s for s in batch.samplers if len(s.token_times) > s.streamed]  # a dropped token is not streamed
        ready = end + self._station.hand_over
        for server in range(self._station.servers):
            mine = [s for s in streamed if s.server == server]
            if not mine:
                continue
            self._serve(server, ready)
            sent = self._work(server, ready, self._station.step + self._station.token * len(mine))
            for sequence in mine:
                new = len(sequence.token_times) - sequence.streamed
                sequence.token_times[sequence.streamed :] = [sent] * new
                sequence.last_held = sent - end
                if not sequence.streamed:
                    sequence.first_held = sequence.last_held
                sequence.streamed += new
        if self._released is not None:
            for ended in sorted((s for s in streamed if s.total == s.end), key=lambda s: s.token_times[-1]):
                for following in self._released(ended):
                    self._add(following)

    def use(self) -> StationUse | None:
        """What it did, when all has been served; None: there was nothing to serve."""
        if not self._sequences:
            return None
        return StationUse(
            before=float(np.mean([s.reached - s.arrival for s in self._sequences])),
            first_token=float(np.mean([s.first_held for s in self._sequences])),
            last_token=float(np.mean([s.last_held for s in self._sequences])),
            busy=sum(self._busy),
            requests=len(self._sequences),
        )

    def _add(self, ready: Sequence) -> None:
        """A further request, behind those that are ready as early; no server has come so far."""
        first = bisect_right(self._sequences, ready.arrival, key=lambda s: s.arrival)
        self._sequences.insert(first, ready)
        for place in range(first, len(self._sequences)):
            self._sequences[place].server = place % self._station.servers

    def _serve(self, server: int, until: float) -> None:
        """Do the jobs of the requests that are ready by `until`."""
        while self._next[server] < len(self._sequences):
            sequence = self._sequences[self._next[server]]
            if sequence.arrival > until:
                break
            sequence.reached = self._work(server, sequence.arrival, self._service(sequence)) + self._station.hand_over
            self._next[server] += self._station.servers

    def _service(self, sequence: Sequence) -> float:
        return self._station.request + self._station.prompt_token * sequence.prompt

    def _work(self, server: int, ready: float, service: float) -> float:
        """Do a job; return when it is done."""
        self._busy[server] += service
        self._free[server] = max(self._free[server], ready) + service
        return self._free[server]

    def _following(self, server: int) -> float:
        if self._given[server] < self._next[server]:
            return self._sequences[self._given[server]].reached
        if self._next[server] >= len(self._sequences):
            return inf
        sequence = self._sequences[self._next[server]]
        return max(self._free[server], sequence.arrival) + self._service(sequence) + self._station.hand_over

"""What surrounds an engine: the front-end that a request passes before and after it, and the result of serving a trace."""

import dataclasses
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from results.record import RequestRecord
from simulators.native.frontend.station import Station, StationUse

Floats = NDArray[np.float64]
NO_STATION = Station()  # it costs nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontend:
    """Seconds that a request spends outside the steps.

    before, before_per_token: until it reaches the station, fixed and per prompt token. after: from the end of each step, and the station's
    work on it, until the client reads the token. These are delays; the station is a queue. Without one a request reaches the scheduler.
    """

    before: float = 0.0
    before_per_token: float = 0.0
    after: float = 0.0
    station: Station = NO_STATION  # the API servers

    def reached(self, arrival: Floats, input_tokens: Any) -> Floats:
        """When requests of these arrivals (s) and prompts reach the station, or the scheduler where the station costs nothing."""
        reached: Floats = arrival + (self.before + self.before_per_token * input_tokens)
        return reached

    @classmethod
    def with_idle_cost(cls, fixed: float, per_token: float, *, after: float, station: Station = NO_STATION) -> Self:
        """The front end whose cost on an idle server was measured: `fixed` s for a prompt of one token, `per_token` s of it for each token.

        No cost is counted twice. A station that costs more is scaled down to it. What one costs less is a delay (a network, say) in which
        nobody is busy, so that it never becomes a queue; the share `after` of it comes after each step.
        """
        if station == NO_STATION:
            return cls(before=fixed * (1 - after) - per_token, before_per_token=per_token, after=fixed * after)
        station = dataclasses.replace(station, prompt_token=per_token)
        idle = station.idle(1)
        if idle > fixed:
            return cls(station=station.scaled(fixed / idle))
        return cls(before=(fixed - idle) * (1 - after), after=(fixed - idle) * after, station=station)

    def without_queue(self) -> Self:
        """The station's cost on an idle server as delays."""
        station = self.station
        return type(self)(
            before=self.before + station.request + station.hand_over,
            before_per_token=self.before_per_token + station.prompt_token,
            after=self.after + station.after,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The result of serving a trace."""

    records: Many[RequestRecord]  # one per request, in the trace's order
    steps: int  # that computed or preempted something
    preemptions: int  # in all
    end: float  # s; when the last step ended
    peak_kv_blocks: int  # held at once, at most
    seconds: float = 0.0  # s that computing all this took
    transfers: int = 0  # KV caches sent from one engine to another
    migrations: int = 0  # requests that moved to another engine while they ran
    station: StationUse | None = None  # what the API servers added; None: there was no queue of theirs

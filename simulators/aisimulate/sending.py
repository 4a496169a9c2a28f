"""When AISimulate sends a request: at its time, or when others have ended in its own simulation (closed loops, sessions).

Its replay has both: a load of so many requests in flight over a trace's rows, and rows of one session, each of which waits for the one
before it and a delay. A session whose turns branch or join is neither, and is sent when it was.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from results.record import Run
from workloads.trace import Trace

AT_TIMES: Mapping[str, Any] = {"type": "trace_timestamps", "speedup": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """How the requests of a trace are sent. sessions: their ids, turn by turn; a request of none is a session by itself."""

    load: Mapping[str, Any]  # traffic.load of its configuration
    sessions: tuple[tuple[int, ...], ...]  # all requests, each in one
    looped: bool  # whether ends of its own make requests due
    delays: Mapping[int, float] = field(default_factory=dict)  # s from the end of the turn before a request to the request

    @property
    def places(self) -> dict[tuple[str, int], int]:
        """The request of each of its rows, by its session (named after its first request) and turn."""
        return {(str(session[0]), turn): asked for session in self.sessions for turn, asked in enumerate(session)}


def at_times(trace: Trace) -> Sending:
    """Every request at its arrival."""
    return Sending(load=AT_TIMES, sessions=tuple((r.request_id,) for r in trace), looped=False)


def sending(measured: Run, trace: Trace) -> Sending:
    """As the measured run's requests were sent. trace: as sent. A closed loop's ramp is not kept: all slots begin at once."""
    if measured.concurrency is not None:
        load = {"type": "concurrency", "concurrency": measured.concurrency}
        return Sending(load=load, sessions=tuple((r.request_id,) for r in trace), looped=True)
    if not any(request.after for request in measured.trace) or _branches(measured.trace):
        return at_times(trace)
    sent = {r.request_id for r in trace}
    sessions: dict[int, list[int]] = {}  # by the last turn so far
    for request in measured.trace:
        if request.request_id in sent:
            turns = sessions.pop(request.after[0], []) if request.after else []
            sessions[request.request_id] = [*turns, request.request_id]
    delays = {request.request_id: request.delay for request in measured.trace}
    return Sending(load=AT_TIMES, sessions=tuple(map(tuple, sessions.values())), looped=True, delays=delays)


def _branches(trace: Trace) -> bool:
    """Whether a turn waits for several, or several for one."""
    waited_for = Counter(other for request in trace for other in set(request.after))
    return any(len(set(request.after)) > 1 for request in trace) or max(waited_for.values(), default=0) > 1

"""Which process sends which requests: sessions go round, each whole, and so do requests of no session and the slots of a closed loop."""

import dataclasses
from dataclasses import dataclass

from workloads.release import Release, Slots
from workloads.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one process sends."""

    places: tuple[int, ...]  # of its requests in the whole trace, ascending
    trace: Trace  # these requests
    release: Release | None  # of these, where the whole has one


def share_out(trace: Trace, release: Release | None, processes: int) -> list[Share]:
    """The shares of at most so many processes; none is empty. release: a closed loop's, or None.

    A session stays whole, as do requests that wait for each other: number i, in the order in which they begin, goes to process i modulo the
    processes. A closed loop's slots are shared out likewise, so that the quotas sum to its concurrency and differ by one at the most; of
    N processes each takes every N-th request of the trace. Raises ValueError for any other release.
    """
    if release is None:
        groups = _groups(trace)
        number = min(processes, max(groups) + 1)
        releases: list[Release | None] = [None] * number
    elif isinstance(release, Slots):
        groups = list(range(len(trace)))
        number = min(processes, len(release.first))
        releases = [release.share(i, number) for i in range(number)]
    else:
        raise ValueError(f"client.processes: a {type(release).__name__} cannot be shared out among processes; give client.processes=1")
    dealt = [tuple(place for place, group in enumerate(groups) if group % number == i) for i in range(number)]
    return [
        Share(places=places, trace=dataclasses.replace(trace, requests=tuple(trace.requests[p] for p in places)), release=own)
        for places, own in zip(dealt, releases, strict=True)
    ]


def _groups(trace: Trace) -> list[int]:
    """The number of each request's group, in the order in which groups begin: its session, with all that wait for each other."""
    if not trace.has_sessions:
        return list(range(len(trace)))
    first = list(range(len(trace)))  # of each request one that came before it in its group, or itself

    def begin(place: int) -> int:
        while first[place] != place:
            first[place] = first[first[place]]
            place = first[place]
        return place

    places: dict[int, int] = {}  # of requests
    sessions: dict[int, int] = {}  # where each begins
    for place, request in enumerate(trace):
        places[request.request_id] = place
        joined = {begin(places[other]) for other in request.after} | {place}
        if request.session is not None:
            joined.add(begin(sessions.setdefault(request.session, place)))
        for other in joined:
            first[other] = min(joined)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(begin(place), len(numbers)) for place in range(len(trace))]

"""See api_servers.py of the readable engine."""

from simulators.native.fast.compiled import compiled
from simulators.native.fast.records import NONE, EngineArrays


@compiled
def reached(e: EngineArrays, now: float) -> int:
    """The sequence that is next to reach the scheduler, by `now`, or NONE. All requests ready by then must have been served."""
    first, earliest = NONE, float("inf")
    for server in range(len(e.servers)):
        place = e.servers[server].given
        if place < e.servers[server].next:
            when = e.sequences[e.order[place]].reached
            if when <= now and (when < earliest or (when == earliest and place < first)):
                first, earliest = place, when
    if first == NONE:
        return NONE
    sequence: int = e.order[first]
    e.servers[e.sequences[sequence].server].given += len(e.servers)
    return sequence


@compiled
def following(e: EngineArrays) -> float:
    """See ApiServers.following."""
    earliest, costs = float("inf"), e.costs[0]
    for server in range(len(e.servers)):
        s = e.servers[server]
        if s.given < s.next:
            earliest = min(earliest, e.sequences[e.order[s.given]].reached)
        elif s.next < e.clock[0].known:
            sequence = e.order[s.next]
            earliest = min(earliest, max(s.free, e.sequences[sequence].arrival) + _service(e, sequence) + costs.hand_over)
    return earliest


@compiled
def serve(e: EngineArrays, server: int, until: float) -> None:
    """Do the jobs of the requests that are ready by `until`."""
    s = e.servers[server]
    while s.next < e.clock[0].known and e.sequences[e.order[s.next]].arrival <= until:
        sequence = e.order[s.next]
        done = _work(e, server, e.sequences[sequence].arrival, _service(e, sequence))
        e.sequences[sequence].reached = done + e.costs[0].hand_over
        s.next += len(e.servers)


@compiled
def step_ended(e: EngineArrays, end: float) -> None:
    """A step has ended: log when, and when each server has sent its tokens."""
    costs, log = e.costs[0], e.ends[e.clock[0].told]
    e.clock[0].told += 1
    ready = end + costs.hand_over
    log[0] = end
    for server in range(len(e.servers)):
        tokens = e.servers[server].tokens
        if tokens:
            serve(e, server, ready)
            log[1 + server] = _work(e, server, ready, costs.step + costs.token * tokens)
            e.servers[server].tokens = 0


@compiled
def _service(e: EngineArrays, sequence: int) -> float:
    service: float = e.costs[0].request + e.costs[0].prompt_token * e.sequences[sequence].total
    return service


@compiled
def _work(e: EngineArrays, server: int, ready: float, service: float) -> float:
    s = e.servers[server]
    s.busy += service
    s.free = max(s.free, ready) + service
    done: float = s.free
    return done

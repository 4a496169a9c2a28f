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
            when = e.sequences[place].reached
            if when <= now and (when < earliest or (when == earliest and place < first)):
                first, earliest = place, when
    if first != NONE:
        e.servers[e.sequences[first].server].given += len(e.servers)
    return first


@compiled
def following(e: EngineArrays) -> float:
    """See ApiServers.following."""
    earliest, costs = float("inf"), e.costs[0]
    for server in range(len(e.servers)):
        s = e.servers[server]
        if s.given < s.next:
            earliest = min(earliest, e.sequences[s.given].reached)
        elif s.next < e.clock[0].known:
            arrival = e.sequences[s.next].arrival
            earliest = min(earliest, max(s.free, arrival) + _service(e, s.next) + costs.hand_over)
    return earliest


@compiled
def serve(e: EngineArrays, server: int, until: float) -> None:
    """Do the jobs of the requests that are ready by `until`."""
    s = e.servers[server]
    while s.next < e.clock[0].known and e.sequences[s.next].arrival <= until:
        done = _work(e, server, e.sequences[s.next].arrival, _service(e, s.next))
        e.sequences[s.next].reached = done + e.costs[0].hand_over
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

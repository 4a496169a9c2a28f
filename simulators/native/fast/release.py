"""See Queue in serve.py of the readable engine, and Slots in workloads/release.py: a sequence that ends makes the next one due."""

from simulators.native.fast.compiled import compiled
from simulators.native.fast.records import NONE, EngineArrays


@compiled
def release(e: EngineArrays) -> None:
    """Of the sequences that completed in the step that has just been told, the earliest at its client makes the next one due, and so on."""
    loop, log = e.loop[0], e.ends[e.clock[0].told - 1]
    for _ in range(loop.completed):
        first, earliest = NONE, float("inf")
        for place in range(loop.completed):
            sequence = e.completed[place]
            if sequence != NONE and log[1 + e.sequences[sequence].server] < earliest:
                first, earliest = place, log[1 + e.sequences[sequence].server]
        e.completed[first] = NONE
        if loop.next < len(e.sequences):
            make_due(e, earliest + loop.after)
    loop.completed = 0


@compiled
def make_due(e: EngineArrays, time: float) -> None:
    """The next sequence comes into the order in which the station serves them, behind those that are ready as early."""
    clock, loop, order = e.clock[0], e.loop[0], e.order
    s = e.sequences[loop.next]
    s.due = time
    s.arrival = time + s.arrival  # it held the time that its way to the station takes
    place = clock.known
    while place > 0 and e.sequences[order[place - 1]].arrival > s.arrival:
        order[place] = order[place - 1]
        place -= 1
    order[place] = loop.next
    clock.known += 1
    loop.next += 1
    for later in range(place, clock.known):
        e.sequences[order[later]].server = later % len(e.servers)

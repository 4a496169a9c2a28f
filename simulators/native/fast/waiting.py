"""See waiting.py of the readable engine's scheduling: who is admitted next, and by the same order, who gives way. A ring that begins at
`head`; by priority it is kept sorted.
"""

from simulators.native.fast.compiled import compiled
from simulators.native.fast.records import EngineArrays


@compiled
def push(e: EngineArrays, sequence: int) -> None:
    """A sequence has arrived."""
    clock, size = e.clock[0], len(e.waiting)
    place = clock.waiting
    if e.limits[0].by_priority:
        while place > 0 and _before(e, sequence, e.waiting[(clock.head + place - 1) % size]):
            e.waiting[(clock.head + place) % size] = e.waiting[(clock.head + place - 1) % size]
            place -= 1
    e.waiting[(clock.head + place) % size] = sequence
    clock.waiting += 1


@compiled
def put_back(e: EngineArrays, sequence: int) -> None:
    """A preempted sequence comes back: to the front of those that the order puts level with it."""
    if e.limits[0].by_priority:
        push(e, sequence)
        return
    clock = e.clock[0]
    clock.head = (clock.head - 1) % len(e.waiting)
    e.waiting[clock.head] = sequence
    clock.waiting += 1


@compiled
def pop(e: EngineArrays, place: int) -> None:
    """Take out the one at this place; those before it stay before the rest."""
    clock, size = e.clock[0], len(e.waiting)
    for i in range(place, 0, -1):
        e.waiting[(clock.head + i) % size] = e.waiting[(clock.head + i - 1) % size]
    clock.head = (clock.head + 1) % size
    clock.waiting -= 1


@compiled
def remove(e: EngineArrays, sequence: int) -> None:
    """Take this one out, wherever it is."""
    place = 0
    while e.waiting[(e.clock[0].head + place) % len(e.waiting)] != sequence:
        place += 1
    pop(e, place)


@compiled
def victim(e: EngineArrays) -> int:
    """The place among the running of the one to preempt: the newest; by priority the one that goes last, of several the latest to come."""
    last: int = e.clock[0].running - 1
    if not e.limits[0].by_priority:
        return last
    found: int = 0
    for place in range(1, last + 1):
        one, other = e.sequences[e.running[place]], e.sequences[e.running[found]]
        if one.priority > other.priority or (one.priority == other.priority and one.arrival > other.arrival):
            found = place
    return found


@compiled
def _before(e: EngineArrays, one: int, other: int) -> bool:
    a, b = e.sequences[one], e.sequences[other]
    if a.priority != b.priority:
        return bool(a.priority < b.priority)
    if a.arrival != b.arrival:
        return bool(a.arrival < b.arrival)
    return bool(a.index < b.index)

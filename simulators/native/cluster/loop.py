"""The cluster's loop: one clock for all instances, and what happens at each moment in one order.

At one moment: steps end, KV caches arrive, requests arrive, migrations are decided, and then steps begin. So a single instance does
exactly what `engine.run` does.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import count
from typing import Any, NamedTuple

from simulators.errors import SimulatorError
from simulators.native import sequence
from simulators.native.cluster.instance import Instance, paged
from simulators.native.cluster.link import Link
from simulators.native.cluster.placement import Move, Placement
from simulators.native.engine import Step


class EventKind(IntEnum):
    """The kinds of events; those of one moment are handled in this order."""

    END, DELIVER, COPIED, ARRIVE, REBALANCE, BEGIN = range(6)


class Event(NamedTuple):
    """An event of the heap. `number` keeps events of one moment and kind in the order in which they were planned."""

    time: float
    what: EventKind
    number: int
    who: Any


class Copy(NamedTuple):
    """A live migration under way: of which request, how many of its tokens are copied, and how often it had been preempted before."""

    move: Move
    tokens: int
    preemptions: int


class Cluster:
    """Serves sequences on instances. Requests that move need a link. pause: s that a migrating request stands still, beside the transfer of
    its last tokens (Llumnix: 20 to 30 ms, section 6.2); drag: share by which a migration slows the steps of both its ends meanwhile.
    """

    def __init__(
        self, instances: Sequence[Instance], placement: Placement, *, link: Link | None = None, pause: float = 0.02, drag: float = 0.01
    ) -> None:
        self.instances, self.placement, self.link = instances, placement, link
        self.pause, self.drag = pause, drag
        self.migrations = self.migrations_given_up = 0
        self._heap: list[Event] = []
        self._numbers = count()
        self._busy: set[int] = set()  # instances with a BEGIN or END ahead
        self._copies: dict[int, Copy] = {}  # by the request's index, from its start to its end
        self._copied: set[int] = set()  # indices of requests that leave with their next token
        self._unfinished = 0

    def run(self, sequences: Iterable[sequence.Sequence]) -> Iterator[tuple[Instance, Step]]:
        """Serve the sequences, yielding each step and its instance, in the order of scheduling. Exhaust it: sequences get their times
        meanwhile.

        Raises SimulatorError when an instance goes on without anybody getting a token.
        """
        for arriving in sequences:
            self._plan(arriving.arrival, EventKind.ARRIVE, arriving)
            self._unfinished += 1
        if self.placement.interval is not None:
            self._plan(self.placement.interval, EventKind.REBALANCE, None)
        handlers: dict[EventKind, Callable[[float, Any], None]] = {
            EventKind.END: self._end,
            EventKind.DELIVER: self._deliver,
            EventKind.COPIED: self._copy_arrived,
            EventKind.ARRIVE: self._arrive,
            EventKind.REBALANCE: self._rebalance,
        }
        while self._heap:
            now, what, _, who = heapq.heappop(self._heap)
            if what is not EventKind.BEGIN:
                handlers[what](now, who)
                continue
            for step in who.begin(now):
                yield who, step
            if who.engine.awaited is None:
                self._busy.discard(who.index)
            else:
                self._plan(who.engine.awaited, EventKind.END, who)
        if self._unfinished:
            raise SimulatorError(f"native: {self._unfinished} requests wait for ever for KV blocks; give the KV cache more of them")

    def _plan(self, time: float, what: EventKind, who: Any) -> None:
        heapq.heappush(self._heap, Event(time, what, next(self._numbers), who))

    def _wake(self, now: float, instance: Instance) -> None:
        if instance.index not in self._busy:
            self._busy.add(instance.index)
            self._plan(now, EventKind.BEGIN, instance)

    def _arrive(self, now: float, arrived: sequence.Sequence) -> None:
        place = self.placement.place(arrived, self.instances)
        if place.moves and arrived.output > 1:  # a request of one output token is complete when its prompt is computed
            arrived.held, arrived.end = True, arrived.prompt + 1
        place.instance.add(arrived)
        self._wake(now, place.instance)

    def _end(self, now: float, instance: Instance) -> None:
        for sampled in instance.engine.end().samplers:
            if sampled.index not in instance.sequences:
                continue  # one step too many was scheduled for a request that is complete
            if sampled.index in self._copied:
                self._leave(now, sampled)
            elif sampled.total == sampled.end:
                instance.remove(sampled)
                if sampled.held:
                    self._hand_over(now, instance, sampled)
                else:
                    self._unfinished -= 1
        self._plan(now, EventKind.BEGIN, instance)

    def _hand_over(self, now: float, source: Instance, prefilled: sequence.Sequence) -> None:
        """The prompt is computed: its KV is sent to a decode instance, and is kept here until it has arrived."""
        target = self.placement.target(prefilled, self.instances)
        arrival = self._send(now, prefilled.prompt, source, target)
        self._plan(arrival, EventKind.DELIVER, (prefilled, source, target))

    def _deliver(self, now: float, who: tuple[sequence.Sequence, Instance, Instance]) -> None:
        """KV has arrived: the request goes on at the target, and the source frees its blocks."""
        moved, source, target = who
        if moved.held:
            paged(source).release(moved)
            self._wake(now, source)  # requests that wait at the source may have room now
            moved.held, moved.end = False, moved.prompt + moved.output
            moved.token_times[-1] = now  # the client reads from the decode instance: it sees the first token when the KV has arrived there
        moved.received, moved.computed = moved.total - 1, 0
        target.add(moved)
        self._wake(now, target)

    def _rebalance(self, now: float, _: None) -> None:
        """Begin the live migrations that are due: what is computed of a request is copied while it goes on."""
        for move in self.placement.rebalance(self.instances):
            index = move.sequence.index
            if index not in self._copies:
                self._copies[index] = Copy(move, move.sequence.computed, move.sequence.preemptions)
                self._plan(self._send(now, move.sequence.computed, move.source, move.target), EventKind.COPIED, index)
                self._drag()
        if self._unfinished:
            assert self.placement.interval is not None
            self._plan(now + self.placement.interval, EventKind.REBALANCE, None)

    def _copy_arrived(self, now: float, index: int) -> None:
        if index in self._copies[index].move.source.sequences:
            self._copied.add(index)
        else:  # the request is complete
            self._forget(index, moved=False)

    def _leave(self, now: float, leaving: sequence.Sequence) -> None:
        """The copy has arrived, without the newest tokens: stop the request here, send those tokens, and let it go on at the target.
        Nothing is done when the request was preempted or completed meanwhile.
        """
        (_, source, target), tokens, preemptions = self._copies[leaving.index]
        going = leaving.preemptions == preemptions and leaving.total < leaving.end
        computed = leaving.computed
        moved = going and source.scheduler.withdraw(leaving)
        self._forget(leaving.index, moved=moved)
        if moved:
            source.remove(leaving)
            arrival = self._send(now, computed - tokens, source, target) + self.pause
            self._plan(arrival, EventKind.DELIVER, (leaving, source, target))
        elif leaving.total == leaving.end:
            source.remove(leaving)
            self._unfinished -= 1

    def _forget(self, index: int, *, moved: bool) -> None:
        del self._copies[index]
        self._copied.discard(index)
        self.migrations += moved
        self.migrations_given_up += not moved
        self._drag()

    def _drag(self) -> None:
        ends = {instance.index for copy in self._copies.values() for instance in (copy.move.source, copy.move.target)}
        for instance in self.instances:
            instance.engine.slowdown = 1 + self.drag * (instance.index in ends)

    def _send(self, now: float, tokens: int, source: Instance, target: Instance) -> float:
        assert self.link is not None, "instances between which requests move need a link"
        return self.link.send(now, tokens, source.index, target.index)

"""Fleet: replicas on one clock, behind a router that knows which of them serve; a rule starts and stops them.

A replica is paid for from the moment it is started. It gets requests when its start-up is over, and none once it is told to stop; it then
serves what it has (it drains) and is gone. A replica that is still starting is given up at once. Nothing looks into an engine but the rule,
and that at its own times, so each replica is the compiled engine, led on from one of these times to the next.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from simulators.native.autoscaling.rules import FleetLoad, Rule
from simulators.native.fast.allocate import new_sequences
from simulators.native.fast.growing import GrowingEngine
from simulators.native.fast.serve import record_columns
from simulators.native.served import Frontend
from workloads.trace import Columns

Places = NDArray[np.int64]
Pick = Callable[[int, int], Places]  # (requests, replicas) to the replica of each, in the order in which they come


@dataclass(eq=False, slots=True, kw_only=True)
class Replica:
    """Times in s since the day's start."""

    engine: GrowingEngine
    started: float  # when it was asked for
    ready: float  # when its start-up is over
    stopping: float | None = None  # when it was told to stop; None: it was not
    stopped: float | None = None  # when it was gone; None: it is there
    served: list[Places] = field(default_factory=list)  # places of its requests among the day's


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetScaling:
    """How a fleet is scaled."""

    rule: Rule
    interval: float  # s between two looks
    start_up: float  # s from a replica's start until it serves
    fewest: int = 1  # replicas
    most: int | None = None  # replicas; None: no bound
    at_first: int = 1  # replicas that serve when the day begins


@dataclass(frozen=True, slots=True, kw_only=True)
class DayServed:
    """A day on a fleet."""

    records: pa.Table  # as record_table.COLUMNS, in the requests' order
    replicas: tuple[Replica, ...]  # all that there ever were
    seconds: float  # of the day

    @property
    def replica_hours(self) -> float:
        """Of a day of 24 hours: from each replica's start until it is gone, or the day is over."""
        return sum(min(self._end(r), self.seconds) - r.started for r in self.replicas if r.started < self.seconds) * 24 / self.seconds

    def alive(self, times: NDArray[np.float64]) -> NDArray[np.int64]:
        """Replicas that are paid for at each of these moments."""
        started, ends = (np.array(values) for values in zip(*((r.started, self._end(r)) for r in self.replicas), strict=True))
        found: NDArray[np.int64] = ((started <= times[:, None]) & (times[:, None] < ends)).sum(axis=1)
        return found

    def _end(self, replica: Replica) -> float:
        return np.inf if replica.stopped is None else replica.stopped


class Fleet:
    """made: an engine, idle. pick: the router."""

    def __init__(self, made: Callable[[], GrowingEngine], frontend: Frontend, pick: Pick, scaling: FleetScaling) -> None:
        self._made, self._frontend, self._pick, self._scaling = made, frontend, pick, scaling
        self._lead = frontend.before + frontend.station.hand_over  # a request must be known so long before the engine can see it
        self.replicas = [self._new(-scaling.start_up) for _ in range(scaling.at_first)]
        for replica in self.replicas:
            replica.started = 0.0

    def serve(self, asked: Columns, priority: Places, seconds: float) -> DayServed:
        """priority: of each request; lower goes first, where the engines' limits say so. Raises SimulatorError."""
        for now in np.arange(0.0, seconds, self._scaling.interval).tolist():
            self._go_on(now)
            self._scale(now)
            until = min(now + self._scaling.interval, seconds)
            self._send(asked, priority, now, until if until < seconds else np.inf)
        finished = [replica.engine.finished() for replica in self.replicas]
        self._note_stopped()
        served = [np.concatenate([np.empty(0, np.int64), *replica.served]) for replica in self.replicas]
        parts = [
            record_columns(_rows(asked, mine), made, np.arange(len(mine)), {}, self._frontend.after)
            for mine, made in zip(served, finished, strict=True)
            if len(mine)
        ]
        order = np.argsort(np.concatenate(served))
        records = pa.concat_tables(parts).take(order).combine_chunks()
        return DayServed(records=records, replicas=tuple(self.replicas), seconds=seconds)

    def _new(self, now: float) -> Replica:
        return Replica(engine=self._made(), started=now, ready=now + self._scaling.start_up)

    def _staying(self) -> list[Replica]:
        return [r for r in self.replicas if r.stopping is None]

    def _go_on(self, now: float) -> None:
        for replica in self.replicas:
            if replica.stopped is None:
                replica.engine.until(now)
        self._note_stopped()

    def _note_stopped(self) -> None:
        """A replica that drains is gone when its last request has ended."""
        for replica in self.replicas:
            if replica.stopping is not None and replica.stopped is None and not replica.engine.in_flight:
                replica.stopped = max(replica.stopping, replica.engine.now)

    def _scale(self, now: float) -> None:
        """Start replicas, or stop them: the newest first, so that those that are still starting go before those that serve."""
        scaling, staying = self._scaling, self._staying()
        load = FleetLoad(now=now, in_flight=sum(r.engine.in_flight for r in staying), replicas=len(staying))
        wanted = max(scaling.fewest, scaling.rule.wanted(load))
        wanted = wanted if scaling.most is None else min(wanted, scaling.most)
        self.replicas += [self._new(now) for _ in range(wanted - len(staying))]
        for replica in sorted(staying, key=lambda r: r.ready)[wanted:]:
            replica.stopping = now
            if replica.ready > now:
                replica.stopped = now
        self._note_stopped()

    def _send(self, asked: Columns, priority: Places, start: float, end: float) -> None:
        """Hand over the requests that arrive from `start` to `end` (both a little later), to the replicas that are ready when they do."""
        staying = self._staying()
        changes = sorted({start, *(r.ready for r in staying if start < r.ready < end)})
        for begin, over in zip(changes, [*changes[1:], end], strict=True):
            ready = [r for r in staying if r.ready <= begin]
            first, last = np.searchsorted(asked.arrival, [begin + self._lead if begin else -np.inf, over + self._lead])
            picked = self._pick(int(last - first), len(ready))
            for number, replica in enumerate(ready):
                mine = first + np.flatnonzero(picked == number)
                self._hand_over(replica, asked, priority, mine)

    def _hand_over(self, replica: Replica, asked: Columns, priority: Places, mine: Places) -> None:
        if not len(mine):
            return
        rows = _rows(asked, mine)
        known = sum(map(len, replica.served))
        reached = self._frontend.reached(rows.arrival, rows.input_tokens)
        index = known + np.arange(len(mine))
        replica.engine.add(new_sequences(reached, rows.input_tokens, rows.output_tokens, index, priority=priority[mine]))
        replica.served.append(mine)


class InTurn:
    """Pick: each replica in turn (arrangement.router=round_robin)."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, requests: int, replicas: int) -> Places:
        """See Pick."""
        found = (self._next + np.arange(requests)) % replicas
        self._next += requests
        return found


class AtRandom:
    """Pick: any of them, with equal chances (arrangement.router=random)."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def __call__(self, requests: int, replicas: int) -> Places:
        """See Pick."""
        return self._rng.integers(replicas, size=requests)


PICKS: dict[str, Callable[[int], Pick]] = {"round_robin": lambda seed: InTurn(), "random": AtRandom}


def _rows(asked: Columns, places: Places | Sequence[int]) -> Columns:
    return Columns._make(column[places] for column in asked)

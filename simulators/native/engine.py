"""The engine loop: take what has arrived, schedule a step, let it take its time, hand its tokens back."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from simulators.errors import SimulatorError
from simulators.native.frontend.api_servers import ApiServers
from simulators.native.frontend.station import Station
from simulators.native.latency.step_time import StepTime
from simulators.native.scheduling.scheduler import Scheduler
from simulators.native.sequence import Batch, Sequence
from simulators.native.stages import Stages

LIVELOCK = 100_000  # steps in which nobody gets a token: far more than the chunks of any prompt


class Step(NamedTuple):
    """A step as it was scheduled. Times in s: when the scheduler decided it, when the device begins it, and when it ends."""

    batch: Batch
    scheduled: float
    start: float
    end: float


@dataclass(eq=False, slots=True, kw_only=True)
class EngineModel:
    """A scheduler and the device that computes its steps, in two moves that a clock calls: `begin`, and `end` at the time `awaited`."""

    scheduler: Scheduler  # decides what the next step computes
    step_time: StepTime  # how long the device takes for it
    in_flight: int = 1  # steps scheduled before the first of them must have ended, as of `run`
    slowdown: float = 1.0  # factor on its steps; 1: none
    where: str = ""  # which of several engines it is, for an error
    stages: Stages = field(default_factory=Stages)  # the device, or the devices that compute a step's layers in turn
    awaited: float | None = None  # s; when the oldest step under way ends; None: none is under way
    # steps that are scheduled and have not ended, each with its end, s
    _under_way: deque[tuple[Batch, float]] = field(default_factory=deque)
    _fruitless: int = 0  # steps in a row that give no sequence a token

    def begin(self, now: float) -> Iterator[Step]:
        """Schedule as many steps as may be under way, yielding each that computes or preempts something. Exhaust it."""
        while len(self._under_way) < self.in_flight and self.scheduler.has_work():
            batch = self.scheduler.schedule()
            self._watch(batch, now)
            ready = self._ready(batch, now)
            start, end = self.stages.next_start(ready), max(now, self.stages.last_end)
            if batch.sequences or batch.dummy:
                end = self.stages.compute(ready, self.slowdown * self.step_time.seconds(batch))
                if self.stages.count > 1:
                    for sequence in batch.samplers:
                        sequence.known = end
                for sequence, cached in batch.admitted:
                    if sequence.scheduled is None:
                        sequence.scheduled, sequence.cached = start, cached
            if batch.sequences or batch.preempted:
                yield Step(batch, now, start, self.stages.last_end)
            elif not self._under_way and not batch.dummy:
                self.scheduler.finish(batch, now)
                break  # nothing can be computed now
            self._under_way.append((batch, end))
        self.awaited = max(now, self._under_way[0][1]) if self._under_way else None

    def end(self) -> Batch:
        """The oldest step under way has ended: hand its tokens back; returns the step."""
        assert self.awaited is not None
        batch, _ = self._under_way.popleft()
        self.scheduler.finish(batch, self.awaited)
        self.awaited = None
        return batch

    def _ready(self, batch: Batch, now: float) -> float:
        """When the first stage has all that it needs for a batch decided at `now`: a decode's token comes from the last stage."""
        if self.stages.count == 1:
            return now
        return max([now, *(sequence.known for sequence in batch.sequences)])

    def _watch(self, batch: Batch, now: float) -> None:
        self._fruitless = 0 if batch.samplers or batch.dummy else self._fruitless + 1
        if self._fruitless > LIVELOCK:
            raise SimulatorError(f"native: at {now:.3f} s requests{self.where} go on preempting each other; give the KV cache more blocks")


def run(
    arriving: Iterable[Sequence] | ApiServers,
    scheduler: Scheduler,
    step_time: StepTime,
    *,
    in_flight: int = 1,
    stages: Stages | None = None,
) -> Iterator[Step]:
    """Serve the sequences, yielding each step that computes or preempts something, in the order of scheduling.

    arriving: the API servers through which they come, or the sequences themselves, in order of arrival.

    in_flight: steps scheduled before the first of them must have ended. 1: schedule, run, hand back, and again. 2: the next step is
    scheduled while one runs, so the device never waits for the scheduler, and a request that arrives meanwhile begins one step later.
    stages: of a pipeline, none of which has computed anything; None: one device.
    Sequences get their times while this runs: exhaust it. Raises SimulatorError when unfinished sequences make no progress (some limits let
    requests preempt each other for ever, in vLLM too).
    """
    engine = EngineModel(scheduler=scheduler, step_time=step_time, in_flight=in_flight, stages=stages or Stages())
    servers = arriving if isinstance(arriving, ApiServers) else ApiServers(Station(), arriving)
    now = 0.0
    while True:
        for sequence in servers.reached(now):
            scheduler.add(sequence)
        yield from engine.begin(now)
        if engine.awaited is not None:
            now = engine.awaited
            servers.step_ended(engine.end(), now)
        elif not scheduler.has_work():
            now = servers.following()
            if now == inf:
                return

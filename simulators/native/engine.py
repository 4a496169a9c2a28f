"""The engine loop: take what has arrived, schedule a step, let it take its time, hand its tokens back."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from simulators.native.batch import Batch
from simulators.native.scheduler import Scheduler
from simulators.native.sequence import Sequence
from simulators.native.step_time import StepTime
from simulators.system import SimulatorError

LIVELOCK = 100_000  # steps in which nobody gets a token: far more than the chunks of any prompt


class Step(NamedTuple):
    """A step as it was scheduled. Times in seconds: when the scheduler decided it, when the device began and when it will have ended."""

    batch: Batch
    scheduled: float
    start: float
    end: float


def run(sequences: Iterable[Sequence], scheduler: Scheduler, step_time: StepTime, *, in_flight: int = 1) -> Iterator[Step]:
    """Serve the sequences (in order of arrival), yielding each step that computes or preempts something, in the order of scheduling.

    in_flight: steps scheduled before the first of them must have ended. 1: schedule, run, hand back, and again. 2: the next step is
    scheduled while one runs, so the device never waits for the scheduler, and who arrives meanwhile is one step later.
    Sequences get their times while this runs: exhaust it. Raises SimulatorError when nothing goes on though sequences are unfinished
    (some limits let requests preempt each other for ever, in vLLM too).
    """
    arriving = iter(sequences)
    following = next(arriving, None)
    under_way: deque[tuple[Batch, float]] = deque()
    now = device_free = 0.0
    fruitless = 0
    while True:
        while following is not None and following.arrival <= now:
            scheduler.add(following)
            following = next(arriving, None)
        if scheduler.has_work():
            batch = scheduler.schedule()
            start = max(now, device_free)
            if batch.sequences:
                device_free = start + step_time.seconds(batch)
                for sequence, cached in batch.admitted:
                    if sequence.scheduled is None:
                        sequence.scheduled, sequence.cached = start, cached
            fruitless = 0 if batch.samplers else fruitless + 1
            if fruitless > LIVELOCK:
                raise SimulatorError(f"native: at {now:.3f} s requests go on preempting each other; give the KV cache more blocks")
            if batch.sequences or batch.preempted:
                yield Step(batch, now, start, device_free)
            under_way.append((batch, max(start, device_free) if batch.sequences else start))
            if len(under_way) < in_flight:
                continue
        if under_way:
            batch, end = under_way.popleft()
            now = max(now, end)
            scheduler.finish(batch, now)
        elif following is not None:
            now = following.arrival
        else:
            return

"""A scheduler held against an engine's step log: step by step, did it compute what the engine computed?

Time is taken out of it: each step ends when the log says so, and who had arrived is told by the log's queue lengths (`told_arrivals`), or
by the times of sending. So what differs is the scheduler's decision. SGLang's log has what is needed (harness/engines/step_log.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from results.record import Run
from simulators.errors import SimulatorError
from simulators.native.kv.prefix_keys import make_sequences
from simulators.native.resolve import limits_of
from simulators.native.scheduling.policies import adapted
from simulators.native.scheduling.sglang import SglangScheduler
from simulators.native.sequence import Sequence

LATEST = 100  # empty decisions in a row: it will not go on


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """One step. prompts: in it, begun ones included; new, cached: their tokens, computed and found; decodes: sequences that decode;
    queue: requests that wait behind it. time: when it ended, s (None: simulated).
    """

    prompts: int = 0
    new: int = 0
    cached: int = 0
    decodes: int = 0
    queue: int | None = None
    time: float | None = None

    @property
    def work(self) -> tuple[int, int, int, int]:
        """What two steps must have in common to be the same."""
        return self.prompts, self.new, self.cached, self.decodes


EMPTY = Logged()


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One step of the log and the scheduler's decision in its place."""

    logged: Logged
    decided: Logged

    @property
    def same(self) -> bool:
        """Whether they are the same step."""
        return self.logged.work == self.decided.work


def steps_of(telemetry: pd.DataFrame) -> Iterator[Logged]:
    """The steps of a run's telemetry, in order. Steps with one time stay apart: each kind's first row begins a step."""
    first = {"step_prefill_sequences", "step_decode_batch"}
    rows = telemetry[telemetry["name"].str.startswith("step_")]
    step: dict[str, float] = {}
    for time, name, value in zip(rows["time"], rows["name"], rows["value"], strict=True):
        if name in first and step:
            yield _logged(step)
            step = {}
        step |= {"time": time, name: value}
    if step:
        yield _logged(step)


def _logged(step: dict[str, float]) -> Logged:
    queue = step.get("step_prefill_queue", step.get("step_decode_queue"))
    return Logged(
        prompts=int(step.get("step_prefill_sequences", 0)),
        new=int(step.get("step_prefill_new_tokens", 0)),
        cached=int(step.get("step_prefill_cached_tokens", 0)),
        decodes=int(step.get("step_decode_batch", 0)),
        queue=None if queue is None else int(queue),
        time=step["time"],
    )


def held_against_log(run: Run, *, told_arrivals: bool, delay: float = 0.0) -> list[Held]:
    """Every step of the run's log beside what SGLang's scheduler of ours decides in its place.

    told_arrivals: a request is there when the log's queue lengths say so (which a retraction would disturb); else `delay` s after it was
    sent. Raises SimulatorError for an engine that overlaps its steps.
    """
    limits = adapted("sglang", limits_of(run.limits, run.config, f"run {run.run_id}"))
    if limits.in_flight != 1:
        raise SimulatorError(f"native: run {run.run_id} decided steps while others ran: its log cannot be followed step by step")
    scheduler = SglangScheduler(limits)
    coming = [s for s in make_sequences(run.trace_as_sent(), block_size=limits.block_size, delay=delay) if limits.refusal(s.end) is None]
    coming.sort(key=lambda s: (s.arrival, s.index))
    assert run.telemetry is not None
    held: list[Held] = []
    now, waiting = 0.0, 0  # requests that wait, by the log
    begun = False  # whether the last prompt of the log's last prefill step goes on
    for logged in steps_of(run.telemetry):
        if told_arrivals:
            assert logged.queue is not None
            admitted = logged.prompts - begun if logged.prompts else 0
            arrived, waiting = max(0, logged.queue + admitted - waiting), logged.queue
        else:
            arrived = sum(s.arrival <= now for s in coming)
        decided = _decide(scheduler, coming, arrived, logged)
        while not told_arrivals and decided.work == EMPTY.work and coming:  # idle: the next one begins the step
            decided = _decide(scheduler, coming, sum(s.arrival <= coming[0].arrival for s in coming), logged)
        held.append(Held(logged=logged, decided=decided))
        if logged.prompts:
            begun = scheduler.chunk_remains
        assert logged.time is not None
        now = logged.time
    return held


def _decide(scheduler: SglangScheduler, coming: list[Sequence], arrived: int, logged: Logged) -> Logged:
    """The next step that is not empty once `arrived` of those that come have, ended when the logged one was; EMPTY when idle."""
    for sequence in coming[:arrived]:
        scheduler.add(sequence)
    del coming[:arrived]
    for _ in range(LATEST):
        if not scheduler.has_work():
            break
        batch = scheduler.schedule()
        assert logged.time is not None
        scheduler.finish(batch, logged.time)
        if batch.sequences:
            cached = sum(tokens for _, tokens in batch.admitted)
            return Logged(prompts=len(batch.sequences) - batch.decodes, new=batch.prefill_tokens, cached=cached, decodes=batch.decodes)
    return EMPTY

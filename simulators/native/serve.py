"""serve: a trace through an engine, and a record per request out of it."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from results.record import RequestRecord
from simulators.native.engine import run
from simulators.native.prefix_keys import make_sequences
from simulators.native.scheduler import Limits, Scheduler
from simulators.native.sequence import Sequence
from simulators.native.step_time import StepTime
from simulators.native.vllm_v1 import VllmV1
from workloads.trace import Request, Trace

POLICIES = {"vllm_v1": VllmV1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontend:
    """Seconds that a request spends outside the steps: before it reaches the scheduler (fixed, and per prompt token), and after each
    step until the client reads the token.
    """

    before: float = 0.0
    before_per_token: float = 0.0
    after: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What came of it. end: when the last step ended, s. peak_kv_blocks: held at once, at most. seconds: of computing this."""

    records: tuple[RequestRecord, ...]
    steps: int
    preemptions: int
    end: float
    peak_kv_blocks: int
    seconds: float


def serve(trace: Trace, limits: Limits, step_time: StepTime, *, frontend: Frontend, policy: str = "vllm_v1") -> Served:
    """Simulate the trace on one engine. Requests that the engine would turn away get a record with the reason as its error.

    Deterministic: the same input gives the same records, bit for bit. Raises SimulatorError.
    """
    begin = time.perf_counter()
    scheduler: Scheduler = POLICIES[policy](limits)
    sequences = list(make_sequences(trace, block_size=limits.block_size))
    for sequence in sequences:
        sequence.arrival += frontend.before + frontend.before_per_token * sequence.prompt
    refusals = {s.index: reason for s in sequences if (reason := limits.refusal(s)) is not None}
    steps, end, peak = 0, 0.0, 0
    for step in run(_accepted(sequences, refusals.keys()), scheduler, step_time, in_flight=limits.in_flight):
        steps, end = steps + 1, step.end
        peak = max(peak, scheduler.cache.used_blocks)
    records = tuple(_record(r, s, frontend.after, refusals.get(s.index)) for r, s in zip(trace, sequences, strict=True))
    return Served(
        records=records,
        steps=steps,
        preemptions=sum(s.preemptions for s in sequences),
        end=end,
        peak_kv_blocks=peak,
        seconds=time.perf_counter() - begin,
    )


def _accepted(sequences: Iterable[Sequence], refused: Iterable[int]) -> list[Sequence]:
    """In the order in which they reach the scheduler."""
    turned_away = set(refused)
    return sorted((s for s in sequences if s.index not in turned_away), key=lambda s: (s.arrival, s.index))


def _record(request: Request, sequence: Sequence, after: float, refusal: str | None) -> RequestRecord:
    if refusal is not None:
        return RequestRecord(request_id=request.request_id, arrival=request.arrival, sent=request.arrival, error=f"refused: {refusal}")
    times = tuple(t + after for t in sequence.token_times) if after else tuple(sequence.token_times)
    return RequestRecord(
        request_id=request.request_id,
        arrival=request.arrival,
        sent=request.arrival,
        scheduled=sequence.scheduled,
        first_token=times[0],
        finished=times[-1],
        input_tokens=request.input_tokens,
        output_tokens=len(times),
        cached_tokens=sequence.cached,
        token_times=times,
    )

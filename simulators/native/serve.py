"""serve: a trace through an engine, and a record per request out of it."""

import dataclasses
import time
from typing import Literal

from results.record import RequestRecord
from simulators.native.engine import run
from simulators.native.fast.obstacle import compiled_obstacle
from simulators.native.frontend.api_servers import ApiServers
from simulators.native.kv.prefix_keys import make_sequences
from simulators.native.latency.step_time import StepTime
from simulators.native.scheduling.policies import POLICIES, adapted
from simulators.native.scheduling.scheduler import Limits, Scheduler
from simulators.native.sequence import Sequence
from simulators.native.served import Frontend, Served
from simulators.native.stages import Stages
from workloads.columns import columns_of
from workloads.trace import Request, Trace

COMPILED_FROM = 20_000  # output tokens of a trace; for so many the readable engine takes about as long as loading the compiled one does


def serve(
    trace: Trace,
    limits: Limits,
    step_time: StepTime,
    *,
    frontend: Frontend,
    policy: str = "vllm_v1",
    engine: Literal["any", "readable", "compiled"] = "any",
    token_times: bool = True,
) -> Served:
    """Simulate the trace on one engine. Requests that the engine would turn away get a record with the reason as its error.

    engine: 'compiled' (fast/) gives the same to the last bit; 'any' takes it for all but small traces, where it has what is asked for.
    token_times: whether records have them.
    Deterministic: the same input gives the same records, bit for bit. Raises SimulatorError, ValueError for what `compiled` cannot serve.
    """
    begin = time.perf_counter()
    limits = adapted(policy, limits)
    obstacle = compiled_obstacle(limits, step_time, policy)
    if engine == "compiled" and obstacle:
        raise ValueError(f"the compiled engine does not have {obstacle}; take the readable one")
    if engine == "compiled" or (engine == "any" and not obstacle and columns_of(trace).output_tokens.sum() >= COMPILED_FROM):
        from simulators.native.fast.serve import serve_compiled  # here, since importing it takes longer than a small trace

        served = serve_compiled(trace, limits, step_time, frontend, token_times=token_times)
    else:
        served = serve_readable(trace, limits, step_time, frontend, POLICIES[policy](limits), token_times=token_times)
    return dataclasses.replace(served, seconds=time.perf_counter() - begin)


def serve_readable(
    trace: Trace,
    limits: Limits,
    step_time: StepTime,
    frontend: Frontend,
    scheduler: Scheduler,
    *,
    token_times: bool,
) -> Served:
    """See `serve`: by the readable engine, with a scheduler that keeps these limits."""
    stages = Stages(count=limits.pipeline_parallel_size)
    queue = Queue(trace, limits, frontend)
    servers = ApiServers(frontend.station, queue.accepted)
    steps, end, peak = 0, 0.0, 0
    for step in run(servers, scheduler, step_time, in_flight=limits.in_flight, stages=stages):
        steps, end = steps + 1, step.end
        peak = max(peak, scheduler.cache.used_blocks)
    records = queue.records()
    return Served(
        records=records if token_times else tuple(dataclasses.replace(r, token_times=None) for r in records),
        steps=steps,
        preemptions=queue.preemptions,
        end=end,
        peak_kv_blocks=peak,
        station=servers.use(),
    )


class Queue:
    """A trace's requests before an engine. accepted: the sequences that it serves, in the order in which they reach its station."""

    def __init__(self, trace: Trace, limits: Limits, frontend: Frontend) -> None:
        self._trace, self._frontend = trace, frontend
        self._sequences = list(make_sequences(trace, block_size=limits.block_size))
        for sequence in self._sequences:
            sequence.arrival += frontend.before + frontend.before_per_token * sequence.prompt
        self._refusals = {s.index: reason for s in self._sequences if (reason := limits.refusal(s.end)) is not None}
        self.accepted = sorted((s for s in self._sequences if s.index not in self._refusals), key=lambda s: (s.arrival, s.index))

    @property
    def preemptions(self) -> int:
        """How often a sequence was preempted, in all."""
        return sum(s.preemptions for s in self._sequences)

    def records(self) -> tuple[RequestRecord, ...]:
        """One per request of the trace, in its order. Ask when all accepted sequences have been served."""
        after = self._frontend.after
        return tuple(_record(r, s, after, self._refusals.get(s.index)) for r, s in zip(self._trace, self._sequences, strict=True))


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

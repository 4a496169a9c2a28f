"""serve: a trace through an engine, and a record per request out of it."""

import dataclasses
import time
from collections import deque
from collections.abc import Iterable
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
from workloads.release import Due, Release, Slots
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
    release: Release | None = None,
) -> Served:
    """Simulate the trace on one engine. Requests that the engine would turn away get a record with the reason as its error.

    engine: 'compiled' (fast/) gives the same to the last bit; 'any' takes it for all but small traces, where it has what is asked for.
    token_times: whether records have them.
    release: requests are sent when others have ended in this simulation (closed loops, sessions): the records have those arrivals. None:
    each is sent at its arrival.
    Deterministic: the same input gives the same records, bit for bit. Raises SimulatorError, ValueError for what `compiled` cannot serve.
    """
    begin = time.perf_counter()
    limits = adapted(policy, limits)
    obstacle = compiled_obstacle(limits, step_time, policy) or (release and _unlike_slots(release, trace, limits))
    if engine == "compiled" and obstacle:
        raise ValueError(f"the compiled engine does not have {obstacle}; take the readable one")
    if engine == "compiled" or (engine == "any" and not obstacle and columns_of(trace).output_tokens.sum() >= COMPILED_FROM):
        from simulators.native.fast.serve import serve_compiled  # here, since importing it takes longer than a small trace

        slots = release if isinstance(release, Slots) else None
        served = serve_compiled(trace, limits, step_time, frontend, slots=slots, token_times=token_times)
    else:
        scheduler = POLICIES[policy](limits)
        served = serve_readable(trace, limits, step_time, frontend, scheduler, release=release, token_times=token_times)
    return dataclasses.replace(served, seconds=time.perf_counter() - begin)


def _unlike_slots(release: Release, trace: Trace, limits: Limits) -> str | None:
    """What the compiled engine does not have: sessions, and a request that ends as soon as it is due."""
    if not isinstance(release, Slots):
        return "sessions"
    asked = columns_of(trace)
    longest = int((asked.input_tokens + asked.output_tokens).max())
    return None if limits.refusal(longest) is None else "closed loops with requests that are turned away"


def serve_readable(
    trace: Trace,
    limits: Limits,
    step_time: StepTime,
    frontend: Frontend,
    scheduler: Scheduler,
    *,
    release: Release | None = None,
    token_times: bool,
) -> Served:
    """See `serve`: by the readable engine, with a scheduler that keeps these limits."""
    stages = Stages(count=limits.pipeline_parallel_size)
    queue = Queue(trace, limits, frontend, release)
    servers = ApiServers(frontend.station, queue.accepted, None if release is None else queue.released)
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
    """A trace's requests before an engine. accepted: the sequences that it serves, in the order in which they reach its station; with a
    release, those that become due whatever ends.
    """

    def __init__(self, trace: Trace, limits: Limits, frontend: Frontend, release: Release | None = None) -> None:
        self._trace, self._frontend, self._release = trace, frontend, release
        self._arrivals = [request.arrival for request in trace]  # s: when each is due
        self._sequences = list(make_sequences(trace, block_size=limits.block_size))
        self._refusals = {s.index: reason for s in self._sequences if (reason := limits.refusal(s.end)) is not None}
        self._lost: dict[int, tuple[float, int]] = {}  # places of those that are never due: when what they waited for failed, and its id
        due = [Due(time, place) for place, time in enumerate(self._arrivals)] if release is None else release.first
        self.accepted = sorted(self._ready(due), key=lambda s: (s.arrival, s.index))

    def released(self, ended: Sequence) -> list[Sequence]:
        """The sequences that become ready because this one has ended, at its client."""
        assert self._release is not None
        return self._ready(self._release.ended(ended.index, ended.token_times[-1] + self._frontend.after))

    def _ready(self, due: Iterable[Due]) -> list[Sequence]:
        """Requests that are due, on their way to the station; one that is turned away has ended when it is due."""
        waiting, ready = deque(due), []
        while waiting:
            time, place = waiting.popleft()
            sequence, self._arrivals[place] = self._sequences[place], time
            if place not in self._refusals:
                sequence.arrival = time + (self._frontend.before + self._frontend.before_per_token * sequence.prompt)
                ready.append(sequence)
            elif self._release is not None:
                self._lost |= dict.fromkeys(self._release.given_up(place), (time, self._trace.requests[place].request_id))
                waiting.extend(self._release.ended(place, time))
        return ready

    @property
    def preemptions(self) -> int:
        """How often a sequence was preempted, in all."""
        return sum(s.preemptions for s in self._sequences)

    def records(self) -> tuple[RequestRecord, ...]:
        """One per request of the trace, in its order. Ask when all accepted sequences have been served."""
        return tuple(map(self._record, self._trace, self._sequences))

    def _record(self, request: Request, sequence: Sequence) -> RequestRecord:
        place = sequence.index
        if place in self._lost:
            ended, cause = self._lost[place]
            return RequestRecord(
                request_id=request.request_id, arrival=ended, error=f"not sent: request {cause}, which it waited for, failed"
            )
        return _record(request, self._arrivals[place], sequence, self._frontend.after, self._refusals.get(place))


def _record(request: Request, due: float, sequence: Sequence, after: float, refusal: str | None) -> RequestRecord:
    if refusal is not None:
        return RequestRecord(request_id=request.request_id, arrival=due, sent=due, error=f"refused: {refusal}")
    times = tuple(t + after for t in sequence.token_times) if after else tuple(sequence.token_times)
    return RequestRecord(
        request_id=request.request_id,
        arrival=due,
        sent=due,
        scheduled=sequence.scheduled,
        first_token=times[0],
        finished=times[-1],
        input_tokens=request.input_tokens,
        output_tokens=len(times),
        cached_tokens=sequence.cached,
        token_times=times,
    )

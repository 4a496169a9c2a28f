"""Laws of the queue before an engine."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from simulators.native.cluster.arrangement import Arrangement
from simulators.native.engine import EngineModel, run
from simulators.native.frontend.api_servers import ApiServers
from simulators.native.frontend.station import Station
from simulators.native.kv.prefix_keys import make_sequences
from simulators.native.scheduling.vllm_v1 import VllmV1
from simulators.native.sequence import Batch, Sequence
from simulators.native.serve import serve
from simulators.native.served import Frontend
from tests.simulators.native.cases import Case, Linear, random_case
from tests.simulators.native.test_laws import LARGE, SEEDS
from workloads.trace import Request, Trace

STATION = Station(request=0.03, prompt_token=1e-4, step=0.004, token=0.002, hand_over=0.001)
Job = tuple[float, float, float]


def sequences_of(case: Case) -> list[Sequence]:
    return sorted(make_sequences(case.trace, block_size=case.limits.block_size), key=lambda s: (s.arrival, s.index))


def trace_of(*requests: tuple[float, int, int]) -> Trace:
    """(arrival, prompt, output)"""
    made = (Request(request_id=i, arrival=a, input_tokens=n, output_tokens=m) for i, (a, n, m) in enumerate(requests))
    return Trace(name="x", requests=tuple(made))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_station_that_costs_nothing_changes_nothing(seed: int) -> None:
    """Held to a loop without any: every sequence goes to the scheduler when it arrives, and a token's time is its step's end."""
    case = random_case(seed)
    waiting, end = sequences_of(case), 0.0
    engine = EngineModel(scheduler=VllmV1(case.limits), step_time=case.step_time, in_flight=case.limits.in_flight)
    expected = list(waiting)
    while waiting or engine.scheduler.has_work():
        while waiting and waiting[0].arrival <= end:
            engine.scheduler.add(waiting.pop(0))
        list(engine.begin(end))
        if engine.awaited is not None:
            end = engine.awaited
            engine.end()
        elif waiting and not engine.scheduler.has_work():  # else the last step was the empty one that follows a completed request
            end = waiting[0].arrival
    found = sequences_of(case)
    list(run(ApiServers(Station(), found), VllmV1(case.limits), case.step_time, in_flight=case.limits.in_flight))
    assert [(s.scheduled, s.token_times, s.cached) for s in found] == [(s.scheduled, s.token_times, s.cached) for s in expected]


class Logged(ApiServers):
    """Keeps the jobs that steps bring: by server, (when it is ready, service, when it was done)."""

    def __init__(self, station: Station, sequences: list[Sequence]) -> None:
        super().__init__(station, sequences)
        self.station = station
        self.jobs: list[list[Job]] = [[] for _ in range(station.servers)]

    def step_ended(self, batch: Batch, end: float) -> None:
        grown = [s for s in batch.samplers if s.token_times[-1] == end and len(s.token_times) == s.streamed + 1]
        super().step_ended(batch, end)
        for server, jobs in enumerate(self.jobs):
            mine = [s for s in grown if s.server == server]
            if mine:
                [done] = {s.token_times[-1] for s in mine}
                jobs.append((end + self.station.hand_over, self.station.step + self.station.token * len(mine), done))


@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_server_works_first_come_first_served_and_never_rests_while_there_is_work(seed: int, servers: int) -> None:
    """Held to Lindley's recursion over all jobs of a server, put in order afterwards. Nothing is sent before its step has ended."""
    case, station = random_case(seed), dataclasses.replace(STATION, servers=servers)
    sequences = sequences_of(case)
    queue = Logged(station, sequences)
    list(run(queue, VllmV1(case.limits), case.step_time, in_flight=case.limits.in_flight))
    busy = 0.0
    for server, messages in enumerate(queue.jobs):
        requests = [(s.arrival, station.request + station.prompt_token * s.prompt, s.reached) for s in sequences[server::servers]]
        jobs = [(ready, service, done - station.hand_over) for ready, service, done in requests] + messages
        free = -math.inf
        for ready, service, done in sorted(jobs, key=lambda job: job[0]):  # stable: requests first, in their order
            free = max(free, ready) + service
            assert done == pytest.approx(free, abs=1e-9)
            busy += service
    use = queue.use()
    assert use is not None and use.busy == pytest.approx(busy) and use.requests == len(sequences)
    assert sum(len(s.token_times) for s in sequences) == sum(r.output_tokens for r in case.trace)


def test_a_request_waits_behind_the_tokens_of_others_and_they_behind_it() -> None:
    """By hand. Steps take 0.1 s. The first request is done at 0.03, so its tokens leave the engine at 0.13 and 0.23."""
    station = Station(request=0.03, step=0.005, token=0.02)
    trace = trace_of((0.0, 10, 2), (0.12, 10, 1))  # the second is under way from 0.12 to 0.15, when the first token is ready
    first, second = serve(trace, LARGE, Linear(fixed=0.1), frontend=Frontend(station=station)).records
    assert first.scheduled == pytest.approx(0.03)
    assert first.token_times == pytest.approx((0.175, 0.255))  # 0.15 + 0.025; 0.23 + 0.025
    assert second.scheduled == pytest.approx(0.23)  # it reaches the scheduler at 0.15, within a step
    assert second.token_times == pytest.approx((0.355,))


def test_requests_of_two_servers_do_not_wait_for_each_other() -> None:
    station = Station(request=0.03, servers=2)
    records = serve(trace_of(*[(0.0, 10, 1)] * 4), LARGE, Linear(fixed=0.001), frontend=Frontend(station=station)).records
    assert [r.scheduled for r in records] == pytest.approx([0.03, 0.03, 0.06, 0.06])


@pytest.mark.parametrize("rho", [0.5, 0.8])
def test_before_the_engine_it_is_an_md1_queue(rho: float) -> None:
    """Mean wait of M/D/1: rho D / (2 (1 - rho)) (Pollaczek-Khinchine), within 5 % on a fixed seed."""
    n, service = 100_000, 0.01
    arrivals = np.cumsum(np.random.default_rng([int(100 * rho), 2]).exponential(service / rho, n))
    trace = trace_of(*((float(a), 8, 1) for a in arrivals))
    station = Station(request=service / 2, prompt_token=service / 16)
    use = serve(trace, LARGE, Linear(fixed=1e-5), frontend=Frontend(station=station)).station
    assert use is not None
    assert use.before - service == pytest.approx(rho * service / (2 * (1 - rho)), rel=0.05)
    assert use.busy == pytest.approx(n * service)


def test_ttft_grows_with_the_tokens_that_others_stream() -> None:
    """The engine's steps take as long with 60 sequences as with none, so that the station alone makes the difference."""
    station = Station(request=0.002, token=1e-4)
    late = [(5.0 + 1.013 * i, 100, 2) for i in range(40)]
    ttft = []
    for others in (0, 20, 60):
        trace = trace_of(*[(0.0, 10, 4000)] * others, *late)
        records = serve(trace, LARGE, Linear(fixed=0.02), frontend=Frontend(station=station)).records[-len(late) :]
        ttft.append(np.mean([r.first_token - r.arrival for r in records if r.first_token is not None]))
    assert ttft[0] < ttft[1] < ttft[2]
    assert ttft[2] - ttft[1] > 0.9 * 40 * station.token


@pytest.mark.parametrize("station", [Station(), Station(request=0.005, prompt_token=1e-5, step=0.001, token=0.002, hand_over=0.003)])
@pytest.mark.parametrize("seconds", [0.0, 0.004, 0.05])
def test_an_idle_server_costs_what_was_measured_of_it(seconds: float, station: Station) -> None:
    """Whether the station costs more, less, or nothing."""
    front = Frontend.with_idle_cost(seconds, 2e-5, after=0.25, station=station)
    trace = trace_of((1.0, 1, 3))
    (plain,) = serve(trace, LARGE, Linear(fixed=0.01), frontend=Frontend()).records
    (record,) = serve(trace, LARGE, Linear(fixed=0.01), frontend=front).records
    assert record.first_token is not None and plain.first_token is not None
    assert record.first_token - plain.first_token == pytest.approx(seconds)


def test_what_a_station_does_not_explain_is_never_a_queue() -> None:
    """An idle server that takes 50 ms a request, of which its API server is busy for 5, serves 100 requests/s."""
    front = Frontend.with_idle_cost(0.05, 0.0, after=0.5, station=Station(request=0.005))
    trace = trace_of(*((0.01 * i, 1, 1) for i in range(200)))
    for record in serve(trace, LARGE, Linear(fixed=0.001), frontend=front).records:
        assert record.first_token is not None and record.first_token - record.arrival < 0.05 + 0.0021


def test_a_request_alone_has_no_queue() -> None:
    queue = Frontend(before=0.01, after=0.003, station=STATION)
    trace = trace_of((1.0, 500, 20), (50.0, 30, 1))
    found, expected = (serve(trace, LARGE, Linear(fixed=0.02, per_token=1e-4), frontend=f).records for f in (queue, queue.without_queue()))
    assert [t for r in found for t in r.token_times or ()] == pytest.approx([t for r in expected for t in r.token_times or ()])


def test_each_of_several_engines_has_a_station_of_its_own() -> None:
    """Engines that look at each other have its cost as a delay."""
    trace, two = trace_of(*[(0.0, 10, 1)] * 4), Arrangement(instances=2)
    served = two.serve(trace, LARGE, Linear(fixed=0.001), frontend=Frontend(station=Station(request=0.03)))
    assert [r.scheduled for r in served.records] == pytest.approx([0.03, 0.03, 0.06, 0.06])
    assert served.station is not None and served.station.before == pytest.approx(0.045) and served.station.requests == 4
    looking = dataclasses.replace(two, router="least_outstanding")
    delayed = looking.serve(trace, LARGE, Linear(fixed=0.001), frontend=Frontend(station=Station(request=0.03)))
    assert [r.scheduled for r in delayed.records] == pytest.approx([0.03] * 4) and delayed.station is None


@pytest.mark.parametrize(("name", "value"), [("request", -1.0), ("token", math.nan), ("servers", 0)])
def test_what_is_no_station_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"front end: {name} must be >= "):
        dataclasses.replace(Station(), **{name: value})

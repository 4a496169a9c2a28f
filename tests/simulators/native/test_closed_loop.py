"""Closed loops in the simulator: N in flight from end to end, both engines alike, and what a saturated engine makes of more slots."""

import dataclasses

import numpy as np
import pytest

from results.record import RequestRecord
from simulators.native.frontend.station import Station
from simulators.native.scheduling.scheduler import Limits
from simulators.native.serve import serve
from simulators.native.served import Frontend, Served
from tests.simulators.native.cases import Case, Linear, random_case
from tests.simulators.native.fast.test_compiled import FRONTEND, assert_same, first_come
from workloads.release import ClosedLoop, Slots
from workloads.trace import Request, Trace


def both(case: Case, concurrency: int, *, frontend: Frontend, ramp: float = 0.0) -> tuple[Served, Served]:
    """A closed loop by the readable engine, and by the compiled one."""
    loop = ClosedLoop(concurrency=concurrency, ramp=ramp)
    readable, compiled = (
        serve(case.trace, case.limits, case.step_time, frontend=frontend, engine=engine, release=loop.over(len(case.trace)))
        for engine in ("readable", "compiled")
    )
    return readable, compiled


def levels(records: list[RequestRecord]) -> list[int]:
    """How many are in flight just after each moment at which some arrive, by the records."""
    ends = np.sort([r.finished for r in records if r.finished is not None])
    arrivals = np.sort([r.arrival for r in records])
    return [int(np.searchsorted(arrivals, t, side="right") - np.searchsorted(ends, t, side="right")) for t in np.unique(arrivals)]


@pytest.mark.parametrize("first", range(0, 120, 40))
def test_the_compiled_engine_keeps_the_same_loop(first: int) -> None:
    """To the last bit: with pressure on the KV cache, sharing, all limits, 1 to 3 steps in flight, and a ramp."""
    for seed in range(first, first + 40):
        case = first_come(random_case(seed))
        frontend = FRONTEND if seed % 2 else dataclasses.replace(FRONTEND, before_per_token=0.0)
        assert_same(*both(case, 1 + seed % 7, frontend=frontend, ramp=0.1 * (seed % 3)))


@pytest.mark.parametrize("servers", [1, 2, 3])
def test_behind_api_servers_too(servers: int) -> None:
    for seed in range(40):
        case = first_come(random_case(seed))
        costs = (np.random.default_rng(seed).exponential(0.02, 5) * (1, 0.01, 0.3, 1, 1)).tolist()
        names = ("request", "prompt_token", "step", "token", "hand_over")
        station = Station(**dict(zip(names, costs, strict=True)), servers=servers)
        assert_same(*both(case, 1 + seed % 7, frontend=dataclasses.replace(FRONTEND, station=station)))


@pytest.mark.parametrize("concurrency", [1, 2, 5])
def test_n_are_in_flight_from_the_first_request_to_the_last(concurrency: int) -> None:
    for seed in range(10):
        case = first_come(random_case(seed))
        served, _ = both(case, concurrency, frontend=FRONTEND)
        slots = min(concurrency, len(case.trace))
        assert set(levels(list(served.records))[:-1]) <= {slots}  # at the last moment two may end, and one request be left
        ends = sorted(r.finished for r in served.records if r.finished is not None)
        assert sorted(r.arrival for r in served.records)[slots:] == ends[: len(case.trace) - slots]


def test_a_request_that_is_turned_away_leaves_its_slot_at_once() -> None:
    case = first_come(random_case(2))
    limits = dataclasses.replace(case.limits, max_model_len=60)
    served = serve(case.trace, limits, case.step_time, frontend=FRONTEND, release=ClosedLoop(concurrency=2).over(len(case.trace)))
    assert len(served.records) == len(case.trace)
    refused, answered = ([r for r in served.records if (r.error is not None) is refusal] for refusal in (True, False))
    assert refused and answered and all(r.finished is not None for r in answered)
    with pytest.raises(ValueError, match="turned away"):
        serve(case.trace, limits, case.step_time, frontend=FRONTEND, engine="compiled", release=Slots([0.0], len(case.trace)))


def test_one_slot_serves_one_request_after_another() -> None:
    """Each lasts as long as alone: the engine never sees two."""
    requests = tuple(Request(request_id=i, arrival=0.0, input_tokens=16, output_tokens=10) for i in range(8))
    limits = Limits(kv_blocks=100, block_size=16, max_num_seqs=8, max_num_batched_tokens=64, max_model_len=64)
    trace = Trace(name="equal", requests=requests)
    served = serve(trace, limits, Linear(fixed=0.5), frontend=Frontend(), release=ClosedLoop(concurrency=1).over(8))
    assert [r.arrival for r in served.records] == [5.0 * i for i in range(8)]
    assert [r.finished for r in served.records] == [5.0 * (i + 1) for i in range(8)]

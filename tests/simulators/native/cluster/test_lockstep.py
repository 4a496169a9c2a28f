"""Data-parallel engines that share experts: rounds as long as their longest batch, dummy batches, waves; and who gets which request."""

import dataclasses
import json
import subprocess

import numpy as np
import pytest

from results.project.folder import ROOT
from simulators.errors import NotAvailable
from simulators.native.cluster.arrangement import Arrangement
from simulators.native.cluster.balancer import REPORTED_EVERY, LoadBalancer, ReportedLoad
from simulators.native.cluster.lockstep import LockStep, Longest
from simulators.native.engine import run
from simulators.native.frontend.station import Station
from simulators.native.kv.prefix_keys import make_sequences
from simulators.native.scheduling.scheduler import Limits
from simulators.native.scheduling.speculation import Speculation
from simulators.native.serve import serve
from simulators.native.served import Frontend, Served
from tests.environments import python_of
from tests.simulators.native.cases import random_case
from tests.simulators.native.cluster.test_cluster import LIMITS, STEP, poisson
from tests.simulators.native.scheduling.test_policies import requests
from workloads.trace import Trace

DRIVER = ROOT / "tests" / "simulators" / "native" / "cluster" / "drive_balancer.py"
TWO = Arrangement(kind="data_parallel", instances=2)


def served(trace: Trace, arrangement: Arrangement = TWO, limits: Limits = LIMITS, frontend: Frontend = Frontend()) -> Served:  # noqa: B008
    return arrangement.serve(trace, limits, STEP, frontend=frontend)


def lock_step(trace: Trace, limits: Limits = LIMITS, ranks: int = 2) -> tuple[LockStep, Longest, list[float]]:
    """The ranks and their step times after the trace, and the seconds of each round that computed something."""
    scheduler, step_time = LockStep(limits, data_parallel_size=ranks), Longest(STEP)
    steps = list(run(list(make_sequences(trace, block_size=limits.block_size)), scheduler, step_time, in_flight=limits.in_flight))
    return scheduler, step_time, [step.end - step.start for step in steps]


@pytest.mark.parametrize("in_flight", [1, 2])
def test_a_round_takes_as_long_as_its_longest_batch(in_flight: int) -> None:
    """A long prompt on one rank holds up the decodes of the other, as long as it takes."""
    limits = dataclasses.replace(LIMITS, in_flight=in_flight)
    trace = requests((0.0, 16, 60), (0.205, 1024, 2))
    scheduler, _, rounds = lock_step(trace, limits)
    assert sorted(scheduler.rank_of.values()) == [0, 1]
    longest = STEP.fixed + STEP.per_token * 256
    assert max(rounds) == pytest.approx(longest) and sum(t == pytest.approx(longest) for t in rounds) == 4
    apart = served(trace, Arrangement(instances=2), limits)
    together = served(trace, TWO, limits)
    held_up = 4 * STEP.per_token * 255
    assert together.records[0].finished == pytest.approx((apart.records[0].finished or 0) + held_up, rel=1e-6)


def test_an_idle_rank_runs_dummy_batches_until_the_wave_is_found_to_have_ended() -> None:
    """20 rounds of one request; the ranks look in round 1 and in round 32, so the wave has 32 rounds, and 32 + 12 dummy batches."""
    scheduler, step_time, rounds = lock_step(requests((0.0, 16, 20)))
    assert (len(rounds), step_time.rounds, step_time.dummies, scheduler.waves) == (20, 32, 32 + 12, 1)
    scheduler, step_time, _ = lock_step(requests((0.0, 16, 1)))
    assert (step_time.rounds, step_time.dummies) == (1, 1)  # it is seen in the first round


def test_a_request_begins_a_wave_or_waits_for_the_end_of_a_dummy_round() -> None:
    dummy = STEP.fixed + STEP.per_token
    first = STEP.fixed + 16 * STEP.per_token
    into = first + 19 * dummy + 2.5 * dummy  # the request of 20 tokens is complete, its wave is not
    scheduler, _, _ = lock_step(requests((0.0, 16, 20), (into, 16, 3)))
    assert scheduler.waves == 1
    late = served(requests((0.0, 16, 20), (into, 16, 3))).records[1]
    assert late.scheduled == pytest.approx(first + 22 * dummy)
    scheduler, _, _ = lock_step(requests((0.0, 16, 20), (9.0, 16, 3)))
    assert scheduler.waves == 2
    assert served(requests((0.0, 16, 20), (9.0, 16, 3))).records[1].scheduled == 9.0


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_lost_and_every_rank_keeps_the_limits(seed: int) -> None:
    """Small caches and preemption, with API servers before and drafts in some."""
    case = random_case(seed)
    limits = dataclasses.replace(case.limits, reserve_full_prompt=True, policy="fcfs")
    if seed % 2:
        limits = dataclasses.replace(limits, speculation=Speculation(num_speculative_tokens=2, acceptance_rate=0.5))
    frontend = Frontend(station=Station(request=0.003, step=0.001, token=0.0005, hand_over=0.001)) if seed % 3 == 0 else Frontend()
    arrangement = Arrangement(kind="data_parallel", instances=3)
    made, again = (arrangement.serve(case.trace, limits, case.step_time, frontend=frontend) for _ in range(2))
    assert made.records == again.records
    assert made.peak_kv_blocks <= limits.kv_blocks
    for asked, got in zip(case.trace, made.records, strict=True):
        assert (got.request_id, got.output_tokens) == (asked.request_id, asked.output_tokens)
        assert got.token_times is not None and list(got.token_times) == sorted(got.token_times)


def test_lock_step_costs_against_engines_of_their_own_and_spreads_evenly() -> None:
    trace = poisson(120, 15.0)
    together = served(trace, Arrangement(kind="data_parallel", instances=4))
    apart = served(trace, Arrangement(instances=4, router="balanced"))
    tpot = [np.mean([(r.finished or 0) - (r.first_token or 0) for r in s.records]) for s in (together, apart)]
    assert tpot[0] > tpot[1]
    scheduler, _, _ = lock_step(trace, ranks=4)
    counts = np.bincount(list(scheduler.rank_of.values()))
    assert counts.min() > 20


def test_one_rank_s_work_alone_is_the_engine_s() -> None:
    """All requests on one rank (the other is idle): each round is that rank's step."""
    trace = requests((0.0, 100, 20))
    alone = serve(trace, LIMITS, STEP, frontend=Frontend())
    assert served(trace).records == tuple(alone.records)


def test_what_it_cannot_do_is_one_line() -> None:
    with pytest.raises(NotAvailable, match="data_parallel is vLLM's, so its policy must be vllm_v1; got sglang"):
        TWO.serve(requests((0.0, 16, 2)), LIMITS, STEP, frontend=Frontend(), policy="sglang")
    with pytest.raises(ValueError, match="data_parallel_size must be >= 2"):
        LockStep(LIMITS, data_parallel_size=1)


def balancing(seed: int) -> tuple[int, list[dict[str, object]]]:
    """Engines, and a random history: reports of loads, requests, and completions on engines that have one."""
    rng = np.random.default_rng(seed)
    engines = int(rng.integers(2, 9))
    unfinished, events = [0] * engines, list[dict[str, object]]()
    balancer = LoadBalancer(engines)
    for now in np.arange(0, 40, REPORTED_EVERY).tolist():
        loads = [ReportedLoad(int(rng.integers(0, 5)), int(rng.integers(0, 20)), float(rng.random())) for _ in range(engines)]
        balancer.report(now, loads)
        chosen = []
        for _ in range(int(rng.integers(0, 6))):
            chosen.append(balancer.choose(unfinished))
            unfinished[chosen[-1]] += 1
        done = [engine for engine in range(engines) if unfinished[engine] and rng.random() < 0.5]
        for engine in done:
            unfinished[engine] -= 1
        events.append({"loads": loads, "chosen": chosen, "done": done})
    return engines, events


@pytest.mark.e2e
def test_every_choice_is_vllms() -> None:
    cases = [balancing(seed) for seed in range(40)]
    done = subprocess.run(
        [python_of("vllm_cpu"), DRIVER], input=json.dumps(cases), capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == [[event["chosen"] for event in events] for _, events in cases]

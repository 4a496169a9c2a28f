"""The capacity measurement against an engine whose capacity is known, and the laws of its parts."""

import dataclasses
import math
from collections import Counter

import numpy as np
import pytest

from harness.engine import EngineError
from harness.probing.capacity import Capacity, mid_life
from harness.probing.saturated_rate import Batches, interval, plausible, request_rate, saturated
from harness.replay.client import Client
from results.record import RequestRecord
from tests.patience import measured_again
from tests.stand_ins.toy_engine import Law, judge, toy_engine
from workloads.lengths import Fixed, Lognormal
from workloads.synthetic import Synthetic
from workloads.trace import Request, Trace

LAW = Law(per_sequence=0.0005)
CAPACITY = Capacity(duration=8.0, pilot=24, pressure=1.2, population=4000, batches=20, slots=64, wide=0.1)
WORKLOAD = Synthetic(name="toy", input=Lognormal(mean=100, cv=0.6, most=400), output=Lognormal(mean=12, cv=0.8, most=60))


def client(*, count_tokens: bool = True) -> Client:
    return Client(
        request_timeout=60, drain_timeout=60, connect_timeout=5, connections=32, keep_alive=3, spin=0.0002, count_tokens=count_tokens
    )


@measured_again
def test_capacity_is_that_of_the_law() -> None:
    lengths = [(r.input_tokens, r.output_tokens) for r in WORKLOAD.trace(rate=math.inf, num_requests=20000, seed=77)]
    with toy_engine(LAW) as endpoint:
        result = CAPACITY.measure(endpoint, client(), WORKLOAD, vocab_size=1000, seed=3)
    judge(result.rate == pytest.approx(LAW.capacity(lengths), rel=0.10), f"{result}, and the law says {LAW.capacity(lengths)}")
    assert result.low <= result.rate <= result.high
    assert result.detail["slots"] == LAW.max_num_seqs
    assert 0.6 * CAPACITY.duration <= result.detail["window_s"]


@measured_again
def test_a_server_that_does_not_count_tokens_is_waited_for() -> None:
    lengths = [(r.input_tokens, r.output_tokens) for r in WORKLOAD.trace(rate=math.inf, num_requests=20000, seed=77)]
    with toy_engine(LAW) as endpoint:
        result = dataclasses.replace(CAPACITY, duration=4.0).measure(
            endpoint, client(count_tokens=False), WORKLOAD, vocab_size=1000, seed=3
        )
    judge(result.rate == pytest.approx(LAW.capacity(lengths), rel=0.10), f"{result}, and the law says {LAW.capacity(lengths)}")


def test_a_failing_engine_is_one_clear_line() -> None:
    with toy_engine(Law(refuse=True)) as endpoint, pytest.raises(EngineError, match="out of luck") as caught:
        CAPACITY.measure(endpoint, client(), WORKLOAD, vocab_size=1000, seed=3)
    assert "\n" not in str(caught.value)


def test_the_rate_does_not_depend_on_the_mix_in_the_stretch_when_cost_is_linear() -> None:
    rng = np.random.default_rng(5)
    per_prompt, per_output, seconds = 1e-4, 2e-3, 1.0
    for share in (0.2, 0.5, 0.8):  # of the time that goes into prompts: far from the long-run mix
        part = np.clip(share + rng.normal(0, 0.1, 30), 0, 1)
        batches = Batches(seconds=seconds, prompt=part / per_prompt, output=(1 - part) / per_output)
        rate = request_rate(batches.prompt, batches.output, seconds, 300, 39)
        assert rate == pytest.approx(1 / (300 * per_prompt + 39 * per_output))


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, truth, hits = np.random.default_rng(6), 1 / (300 * 1e-4 + 39 * 2e-3), 0
    for _ in range(60):
        part = rng.uniform(0.2, 0.5, 30)
        speed = rng.normal(1, 0.1, 30)
        batches = Batches(seconds=1.0, prompt=speed * part / 1e-4, output=speed * (1 - part) / 2e-3)
        low, high = interval(batches, 300, 39, rng)
        hits += low <= truth <= high
    assert hits >= 50  # 95 % of 60 is 57; three standard deviations below that is 52, and 30 batches make it a little narrow


def test_requests_in_mid_life_are_as_renewal_theory_says() -> None:
    requests = tuple(Request(request_id=i, arrival=0.0, input_tokens=10, output_tokens=n) for i, n in enumerate((1, 2, 7)))
    found = mid_life(Trace(name="three", requests=requests), 20000, np.random.default_rng(1))
    ages = Counter(r.input_tokens - 10 for r in found)
    # a request of length n is met at age a < n with probability 1 / (1 + 2 + 7), whichever they are
    for age in range(7):
        expected = sum(r.output_tokens > age for r in requests) / 10
        assert ages[age] / 20000 == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 20000))
    assert all(r.output_tokens >= 1 for r in found)


def record(sent: float, first_token: float) -> RequestRecord:
    return RequestRecord(request_id=0, arrival=sent, sent=sent, first_token=first_token, finished=first_token + 1)


def test_the_stretch_begins_when_all_slots_are_taken_and_ends_when_the_queue_runs_short() -> None:
    records = [record(0, 1), record(0, 2), record(0, 3), record(0, 4), record(0, 5), record(0, 6)]
    assert saturated(records, 2, least=2) == (2, 5)  # once the fifth has begun, one waits
    assert saturated([*records, record(4.5, 7)], 2, least=2) == (2, 6)


def test_a_queue_that_was_never_there_is_no_stretch() -> None:
    start, end = saturated([record(0, 1), record(0, 2), record(5, 6)], 3, least=2)
    assert end <= start


def test_of_a_replay_that_was_cut_short_only_what_was_seen_counts() -> None:
    unseen = RequestRecord(request_id=0, arrival=0.0, sent=0.0)
    records = [record(0, 1), record(0, 2), record(0, 3), record(0, 4), unseen, unseen]
    assert saturated(records, 2, least=2) == (2, 4)
    start, end = saturated([record(0, 1), unseen, unseen], 2, least=2)
    assert end <= start


def test_the_prompt_that_ends_as_the_stretch_begins_is_not_in_it() -> None:
    requests = [Request(request_id=i, arrival=0.0, input_tokens=10, output_tokens=1) for i in range(4)]
    batches = Batches.of([record(0, t) for t in (1, 2, 3, 4)], requests, (2.0, 4.0), 1)
    assert batches.prompt.tolist() == [20]


def test_prompts_only_or_one_token_answers_have_a_rate_too() -> None:
    assert request_rate(np.full(10, 500.0), np.zeros(10), 1.0, 100, 0.0) == pytest.approx(5.0)


@pytest.mark.filterwarnings("error")
def test_resamples_in_which_nothing_came_out_are_a_rate_of_0() -> None:
    """An engine that stood still for most of the window: its interval is wide, and not unknown."""
    assert request_rate(np.zeros(4), np.zeros(4), 1.0, 100, 10) == 0.0
    once = Batches(seconds=1.0, prompt=np.array([100.0, 0.0, 0.0]), output=np.array([10.0, 0.0, 0.0]))
    low, high = interval(once, 100, 10, np.random.default_rng(0))
    assert low == 0.0 < high


@pytest.mark.parametrize("wrong", [{"duration": 0.0}, {"pressure": 0.5}, {"pilot": 0}])
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    settings = {"duration": 1.0, "pilot": 8, "pressure": 1.2, "population": 10, "batches": 10, "slots": 4, "wide": 0.1}
    with pytest.raises(ValueError, match=f"capacity.{next(iter(wrong))} must"):
        Capacity(**(settings | wrong))  # type: ignore[arg-type]


@measured_again
def test_equal_lengths_that_march_in_step_are_measured_too() -> None:
    workload = Synthetic(name="fixed", input=Fixed(tokens=50), output=Fixed(tokens=10))
    with toy_engine(LAW) as endpoint:
        result = dataclasses.replace(CAPACITY, duration=5.0).measure(endpoint, client(), workload, vocab_size=1000, seed=4)
    judge(result.rate == pytest.approx(LAW.capacity([(50, 10)]), rel=0.10), f"{result}, and the law says {LAW.capacity([(50, 10)])}")


def test_a_burst_after_a_standstill_is_no_rate() -> None:
    def records(first_tokens: list[float]) -> list[RequestRecord]:
        return [RequestRecord(request_id=i, arrival=0.0, sent=0.0, first_token=t, error="given up") for i, t in enumerate(first_tokens)]

    steady, still = [0.1 * i for i in range(1, 51)], [5.0 + 0.001 * i for i in range(50)]
    assert plausible(10.0, records(steady)) == 10.0
    assert plausible(1000.0, records(still)) == pytest.approx(4 * 50 / 5.049)
    assert plausible(7.0, records([])) == 7.0

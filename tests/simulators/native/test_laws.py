"""Laws that every simulation keeps, whatever the limits."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest

from results.record import RequestRecord
from simulators.errors import SimulatorError
from simulators.native.engine import Step, run
from simulators.native.kv.prefix_keys import make_sequences
from simulators.native.scheduling.scheduler import Limits
from simulators.native.scheduling.vllm_v1 import VllmV1
from simulators.native.sequence import Sequence
from simulators.native.serve import serve
from simulators.native.served import Frontend, Served
from tests.simulators.native.cases import Case, Linear, random_case
from workloads.prompts import token_ids
from workloads.trace import Request, Trace

SEEDS = [seed for seed in range(60) if random_case(seed).limits.reserve_full_prompt]  # without it some limits livelock, as vLLM does
LARGE = Limits(kv_blocks=100_000, block_size=16, max_num_seqs=64, max_num_batched_tokens=512, max_model_len=8192)


def served(case: Case) -> Served:
    return serve(case.trace, case.limits, case.step_time, frontend=Frontend())


@pytest.mark.parametrize("seed", SEEDS)
def test_requests_and_tokens_are_conserved(seed: int) -> None:
    case = random_case(seed)
    records = served(case).records
    assert [r.request_id for r in records] == [r.request_id for r in case.trace]
    for asked, got in zip(case.trace, records, strict=True):
        assert got.error is None and got.token_times is not None
        assert (got.input_tokens, got.output_tokens, len(got.token_times)) == (asked.input_tokens, asked.output_tokens, asked.output_tokens)
        assert got.cached_tokens is not None and 0 <= got.cached_tokens < asked.input_tokens


@pytest.mark.parametrize("seed", SEEDS)
def test_time_goes_forward(seed: int) -> None:
    for r in served(random_case(seed)).records:
        assert r.scheduled is not None and r.first_token is not None and r.token_times is not None
        assert r.arrival <= r.scheduled < r.first_token == r.token_times[0] and r.finished == r.token_times[-1]
        assert all(a < b for a, b in pairwise(r.token_times))


@pytest.mark.parametrize("seed", SEEDS)
def test_kv_is_within_capacity_and_held_by_someone(seed: int) -> None:
    case = random_case(seed)
    scheduler = VllmV1(case.limits)
    end = 0.0
    for step in run(
        make_sequences(case.trace, block_size=case.limits.block_size), scheduler, case.step_time, in_flight=case.limits.in_flight
    ):
        assert step.scheduled <= step.start >= end <= step.end
        end = step.end
        held = {block for s in scheduler.running for block in s.blocks}
        assert len(held) == scheduler.cache.used_blocks <= case.limits.kv_blocks
        assert all(s.computed <= len(s.blocks) * case.limits.block_size for s in scheduler.running)
        assert sum(step.batch.tokens) == step.batch.new_tokens <= case.limits.max_num_batched_tokens
        assert len(scheduler.running) <= case.limits.max_num_seqs
    assert scheduler.cache.used_blocks == 0 and not scheduler.has_work()


@pytest.mark.parametrize("in_flight", [1, 2])
def test_one_request_alone_is_the_sum_of_its_steps(in_flight: int) -> None:
    prompt, output, budget = 1000, 7, 256
    limits = dataclasses.replace(LARGE, max_num_batched_tokens=budget, in_flight=in_flight)
    trace = Trace(name="alone", requests=(Request(request_id=5, arrival=2.0, input_tokens=prompt, output_tokens=output),))
    (record,) = serve(trace, limits, Linear(fixed=0.01, per_token=0.001), frontend=Frontend()).records
    chunks = math.ceil(prompt / budget)
    prefill = chunks * 0.01 + prompt * 0.001
    assert record.scheduled == 2.0
    assert record.first_token == pytest.approx(2.0 + prefill, abs=1e-12)
    assert record.finished == pytest.approx(2.0 + prefill + (output - 1) * 0.011, abs=1e-12)


def test_front_end_shifts_what_the_client_sees_and_nothing_else() -> None:
    trace = Trace(name="alone", requests=(Request(request_id=5, arrival=2.0, input_tokens=100, output_tokens=3),))
    (plain,) = serve(trace, LARGE, Linear(fixed=0.01), frontend=Frontend()).records
    (late,) = serve(trace, LARGE, Linear(fixed=0.01), frontend=Frontend(before=0.02, before_per_token=0.001, after=0.005)).records
    assert late.arrival == 2.0 and late.scheduled == pytest.approx(2.12)
    assert late.token_times == pytest.approx([t + 0.125 for t in plain.token_times or ()])


@pytest.mark.parametrize("seed", SEEDS[:20])
def test_the_same_input_gives_the_same_records(seed: int) -> None:
    assert served(random_case(seed)).records == served(random_case(seed)).records


@pytest.mark.parametrize("seed", SEEDS[:20])
def test_ids_are_only_names(seed: int) -> None:
    case = random_case(seed)
    rng = np.random.default_rng(seed)
    ids, blocks = rng.permutation(1000).tolist(), rng.permutation(1000).tolist()
    renamed = tuple(dataclasses.replace(r, request_id=ids[r.request_id], blocks=tuple(blocks[b] for b in r.blocks)) for r in case.trace)
    other = dataclasses.replace(case, trace=dataclasses.replace(case.trace, requests=renamed))
    again = [dataclasses.replace(r, request_id=ids.index(r.request_id)) for r in served(other).records]
    assert tuple(again) == served(case).records


@pytest.mark.parametrize("rho", [0.5, 0.8])
def test_one_slot_is_an_md1_queue(rho: float) -> None:
    """Mean wait of M/D/1: rho D / (2 (1 - rho)) (Pollaczek-Khinchine), within the sampling error of 100 batch means."""
    n, service = 60_000, 0.01
    rng = np.random.default_rng([int(100 * rho), 1])
    arrivals = np.cumsum(rng.exponential(service / rho, n))
    requests = tuple(Request(request_id=i, arrival=float(a), input_tokens=8, output_tokens=1) for i, a in enumerate(arrivals))
    limits = dataclasses.replace(LARGE, max_num_seqs=1)
    records = serve(Trace(name="md1", requests=requests), limits, Linear(fixed=service), frontend=Frontend()).records
    waits = np.array([_scheduled(r) - r.arrival for r in records])
    batches = waits.reshape(100, -1).mean(axis=1)
    expected = rho * service / (2 * (1 - rho))
    assert abs(waits.mean() - expected) < 3 * batches.std(ddof=1) / math.sqrt(len(batches))
    assert batches.std(ddof=1) / math.sqrt(len(batches)) < 0.05 * expected  # the test can tell


@pytest.mark.parametrize("seed", [seed for seed in SEEDS if random_case(seed).limits.in_flight == 1])
def test_littles_law_holds_for_the_running_queue(seed: int) -> None:
    """The integral of the number running, as the scheduler has it, is the sum of the times that requests spend running."""
    case = random_case(seed)
    scheduler = VllmV1(case.limits)
    sequences = list(make_sequences(case.trace, block_size=case.limits.block_size))
    area, stays = 0.0, _Stays()
    for step in run(sequences, scheduler, case.step_time):
        area += len(scheduler.running) * (step.end - step.start)
        stays.see(step, scheduler.running)
    assert area == pytest.approx(stays.total(sequences), rel=1e-9)


class _Stays:
    """Seconds that each sequence spent running, from its admissions, preemptions and last tokens."""

    def __init__(self) -> None:
        self.admitted: dict[int, float] = {}
        self.seconds = 0.0

    def see(self, step: Step, running: list[Sequence]) -> None:
        for sequence in step.batch.preempted:
            self.seconds += step.start - self.admitted.pop(sequence.index)
        for sequence, _ in step.batch.admitted:
            self.admitted[sequence.index] = step.start

    def total(self, sequences: list[Sequence]) -> float:
        return self.seconds + sum(sequences[i].token_times[-1] - at for i, at in self.admitted.items())


@pytest.mark.parametrize("block_size", [4, 16, 24])
def test_a_large_cache_hits_what_the_trace_shares(block_size: int) -> None:
    """One after another, so that all that was computed is there: hits are the longest prefix in common with any earlier prompt."""
    rng = np.random.default_rng(block_size)
    requests = []
    for i in range(60):
        length = int(rng.integers(1, 300))
        blocks = tuple(int(b) for b in rng.integers(0, 3, int(rng.integers(0, -(-length // 16) + 1))))
        requests.append(Request(request_id=i, arrival=10.0 * i, input_tokens=length, output_tokens=2, blocks=blocks))
    trace = Trace(name="shared", requests=tuple(requests), block_size=16)
    prompts = token_ids(trace, vocab_size=32000, seed=0)
    limits = dataclasses.replace(LARGE, block_size=block_size)
    records = serve(trace, limits, Linear(fixed=0.001), frontend=Frontend()).records
    expected = []
    for i, prompt in enumerate(prompts):
        common = max((_common(prompt, earlier) for earlier in prompts[:i]), default=0)
        expected.append(min(common, len(prompt) - 1) // block_size * block_size)
    assert [r.cached_tokens for r in records] == expected
    assert sum(expected) > 1000


def test_no_caching_means_no_hits() -> None:
    case = random_case(3)
    limits = dataclasses.replace(case.limits, prefix_caching=False)
    assert {r.cached_tokens for r in serve(case.trace, limits, case.step_time, frontend=Frontend()).records} == {0}


def test_what_can_never_be_served_is_refused_with_the_reason() -> None:
    requests = tuple(Request(request_id=i, arrival=0.0, input_tokens=n, output_tokens=8) for i, n in enumerate((50, 600, 8190)))
    limits = dataclasses.replace(LARGE, kv_blocks=20)
    good, too_large, too_long = serve(Trace(name="x", requests=requests), limits, Linear(fixed=0.01), frontend=Frontend()).records
    assert good.error is None
    assert too_large.error == "refused: 607 tokens do not fit the KV cache of 320 tokens"
    assert too_long.error == "refused: 8198 tokens are more than max_model_len 8192" and too_long.first_token is None
    whole = dataclasses.replace(LARGE, chunked_prefill=False)
    (_, unchunked, _) = serve(Trace(name="x", requests=requests), whole, Linear(fixed=0.01), frontend=Frontend()).records
    assert unchunked.error == "refused: 607 tokens are more than max_num_batched_tokens 512, and chunked prefill is off"


def test_a_livelock_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulators.native.engine.LIVELOCK", 1000)
    with pytest.raises(SimulatorError, match="go on preempting each other; give the KV cache more blocks"):
        served(_livelock())


def _livelock() -> Case:
    """A case in which vLLM's scheduler, too, lets requests preempt each other for ever (found by the differential test)."""
    tight = Limits(
        kv_blocks=27,
        block_size=8,
        max_num_seqs=8,
        max_num_batched_tokens=21,
        max_model_len=180,
        prefix_caching=False,
        long_prefill_token_threshold=7,
        policy="priority",
        watermark=0.05,
        reserve_full_prompt=False,
    )
    return dataclasses.replace(random_case(457), limits=tight)


def _scheduled(record: RequestRecord) -> float:
    assert record.scheduled is not None
    return record.scheduled


def _common(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))

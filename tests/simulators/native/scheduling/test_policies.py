"""The schedulers of the papers: laws that all keep, and each one's own rule seen in its steps."""

import dataclasses
from itertools import pairwise

import pytest

from results.record import RequestRecord
from simulators.native.engine import Step, run
from simulators.native.kv.prefix_keys import make_sequences
from simulators.native.latency.wrappers.swapping import Swapping
from simulators.native.scheduling.policies import POLICIES, adapted
from simulators.native.scheduling.scheduler import Limits
from simulators.native.scheduling.vllm_v0 import VllmV0
from simulators.native.sequence import Sequence
from simulators.native.serve import serve
from simulators.native.served import Frontend
from tests.simulators.native.cases import Linear, random_case
from workloads.trace import Request, Trace

OTHERS = [name for name in POLICIES if name != "vllm_v1"]
LIMITS = Limits(kv_blocks=1000, block_size=16, max_num_seqs=8, max_num_batched_tokens=64, max_model_len=512)
STEP = Linear(fixed=0.01, per_token=0.001)


def requests(*shapes: tuple[float, int, int]) -> Trace:
    """A trace of (arrival, input tokens, output tokens)."""
    made = [Request(request_id=i, arrival=a, input_tokens=n, output_tokens=m) for i, (a, n, m) in enumerate(shapes)]
    return Trace(name="made", requests=tuple(made))


def steps(policy: str, trace: Trace, limits: Limits) -> tuple[list[Step], list[Sequence]]:
    limits = adapted(policy, limits)
    sequences = list(make_sequences(trace, block_size=limits.block_size))
    return list(run(sequences, POLICIES[policy](limits), STEP)), sequences


def tokens(step: Step) -> dict[int, int]:
    return {s.index: n for s, n in zip(step.batch.sequences, step.batch.tokens, strict=True)}


@pytest.mark.parametrize("policy", OTHERS)
@pytest.mark.parametrize("seed", range(12))
def test_laws_hold_under_pressure(policy: str, seed: int) -> None:
    """Tokens are conserved, time goes forward, KV stays within its blocks and is all given back; the same again gives the same."""
    case = random_case(seed)
    limits = adapted(policy, case.limits)
    scheduler = POLICIES[policy](limits)
    sequences = list(make_sequences(case.trace, block_size=limits.block_size))
    for step in run(sequences, scheduler, case.step_time):
        assert scheduler.cache.used_blocks <= limits.kv_blocks and len(step.batch.sequences) <= limits.max_num_seqs
    assert scheduler.cache.used_blocks == 0 and not scheduler.has_work()
    for sequence in sequences:
        assert len(sequence.token_times) == sequence.output and all(a < b for a, b in pairwise(sequence.token_times))
        assert sequence.scheduled is not None and sequence.arrival <= sequence.scheduled < sequence.token_times[0]
    one, two = (serve(case.trace, case.limits, case.step_time, frontend=Frontend(), policy=policy) for _ in range(2))
    assert one.records == two.records and one.preemptions == two.preemptions


@pytest.mark.parametrize("policy", OTHERS)
def test_one_request_alone_takes_the_same_everywhere_but_for_chunks(policy: str) -> None:
    (record,) = serve(requests((1.0, 100, 5)), LIMITS, STEP, frontend=Frontend(), policy=policy).records
    chunks = 2 if policy in ("sarathi", "sglang") else 1
    assert record.first_token == pytest.approx(1.0 + chunks * 0.01 + 0.1)
    assert record.finished == pytest.approx(1.0 + chunks * 0.01 + 0.1 + 4 * 0.011)


def test_sarathi_never_stalls_a_decode_and_keeps_its_budget() -> None:
    """A long prompt arrives beside a decoding request: that one gets a token in every step."""
    seen, _ = steps("sarathi", requests((0.0, 10, 40), (0.05, 300, 2)), LIMITS)
    long = [tokens(step) for step in seen if 1 in tokens(step)]
    assert [t[1] for t in long[:5]] == [63, 63, 63, 63, 48] and all(t[0] == 1 for t in long)
    assert all(step.batch.new_tokens <= 64 for step in seen)


def test_vllm_v0_stalls_decodes_for_prompts() -> None:
    """The same trace: a step of the whole prompt, and nobody decodes in it."""
    seen, _ = steps("vllm_v0", requests((0.0, 10, 40), (0.05, 300, 2)), LIMITS)
    assert {1: 300} in [tokens(step) for step in seen]
    assert all(step.batch.decodes == 0 or step.batch.prefill_tokens == 0 for step in seen)


def test_orca_puts_whole_prompts_beside_decodes() -> None:
    seen, _ = steps("orca", requests((0.0, 10, 40), (0.05, 300, 2)), LIMITS)
    assert {0: 1, 1: 300} in [tokens(step) for step in seen]


def test_orca_admits_what_it_can_reserve_for() -> None:
    """64 blocks of 16 are 1,024 tokens: four requests of 256 by their true length, two by what the model allows."""
    limits = dataclasses.replace(LIMITS, kv_blocks=64)
    trace = requests(*[(0.0, 156, 100)] * 8)
    most = {policy: max(len(step.batch.sequences) for step in steps(policy, trace, limits)[0]) for policy in OTHERS if "orca" in policy}
    assert most == {"orca": 4, "orca_power_of_two": 3, "orca_max": 2}


def test_request_level_batching_waits_for_the_longest() -> None:
    """Both end together, and who came later waits for that."""
    short, long, late = serve(
        requests((0.0, 10, 2), (0.0, 10, 50), (0.1, 10, 2)), LIMITS, STEP, frontend=Frontend(), policy="request_level"
    ).records
    assert short.finished == long.finished and late.scheduled == long.finished
    orca = serve(requests((0.0, 10, 2), (0.0, 10, 50), (0.1, 10, 2)), LIMITS, STEP, frontend=Frontend(), policy="orca").records
    assert finished(orca[0]) < finished(short) and finished(orca[2]) < finished(late)


def test_swapping_costs_its_copies_and_recomputing_its_tokens() -> None:
    """Two sequences that outgrow the cache: the newer one goes out and comes back, its tokens moved twice."""
    limits = dataclasses.replace(adapted("vllm_v0", LIMITS), kv_blocks=32)
    trace = requests((0.0, 200, 100), (0.0, 200, 100))
    found = {}
    for preemption in ("swap", "recompute"):
        sequences = list(make_sequences(trace, block_size=16))
        scheduler = VllmV0(limits, preemption=preemption)
        seen = list(run(sequences, scheduler, Swapping(STEP, seconds_per_token=0.001)))
        found[preemption] = (sequences[1].preemptions, sum(s.batch.swapped for s in seen), sum(s.batch.prefill_tokens for s in seen))
    preempted_at = 200 + 56  # two of 256 tokens fill 32 blocks
    assert found["swap"] == (1, 2 * preempted_at, 400)
    assert found["recompute"] == (1, 0, 400 + preempted_at + 1)


def test_policies_say_what_they_cannot_keep() -> None:
    with pytest.raises(ValueError, match="in_flight must be 1, got 2"):
        POLICIES["orca"](dataclasses.replace(LIMITS, in_flight=2))


def finished(record: RequestRecord) -> float:
    assert record.finished is not None
    return record.finished

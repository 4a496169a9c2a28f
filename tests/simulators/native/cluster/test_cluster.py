"""Several engines: a lone one is the engine as it was; what is moved costs its transfer, is never lost, and lands where the policy says."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from simulators.errors import NotAvailable
from simulators.native.cluster.arrangement import Arrangement
from simulators.native.cluster.link import Link
from simulators.native.kv.prefix_keys import make_sequences
from simulators.native.scheduling.scheduler import Limits
from simulators.native.serve import serve
from simulators.native.served import Frontend, Served
from tests.simulators.native.cases import Linear, random_case
from tests.simulators.native.scheduling.test_policies import finished, requests
from workloads.trace import Request, Trace

LIMITS = Limits(kv_blocks=1000, block_size=16, max_num_seqs=8, max_num_batched_tokens=256, max_model_len=2048)
STEP = Linear(fixed=0.01, per_token=0.0001)
KV = 100_000  # bytes a token; at 1 GB/s a tenth of a millisecond

ARRANGEMENTS = {
    **{
        router: Arrangement(instances=3, router=router)
        for router in ("random", "round_robin", "least_outstanding", "prefix_aware", "balanced")
    },
    "distserve": Arrangement(kind="distserve", instances=3, prefill=1, link_gb_s=1.0),
    "splitwise": Arrangement(kind="splitwise", instances=3, prefill=2, link_gb_s=1.0),
    "llumnix": Arrangement(kind="llumnix", instances=3, link_gb_s=1.0),
}


def poisson(count: int, rate: float, *, seed: int = 1, input_tokens: int = 300, output_tokens: int = 40) -> Trace:
    """Lengths between half and one and a half of these."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / rate, count))
    shapes = rng.uniform(0.5, 1.5, (count, 2)) * [input_tokens, output_tokens]
    return requests(*[(float(a), int(n) + 1, int(m) + 1) for a, (n, m) in zip(arrivals, shapes, strict=True)])


def served(arrangement: Arrangement, trace: Trace, limits: Limits = LIMITS) -> Served:
    return arrangement.serve(trace, limits, STEP, frontend=Frontend(), kv_bytes_per_token=KV)


@pytest.mark.parametrize("seed", range(40))
def test_a_cluster_of_one_is_the_engine(seed: int) -> None:
    case = random_case(seed)
    if not case.limits.reserve_full_prompt:
        return  # some of these never end
    alone = serve(case.trace, case.limits, case.step_time, frontend=Frontend())
    one = Arrangement().serve(case.trace, case.limits, case.step_time, frontend=Frontend())
    assert one.records == alone.records and (one.steps, one.preemptions, one.end) == (alone.steps, alone.preemptions, alone.end)


@pytest.mark.parametrize("name", ARRANGEMENTS)
@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost_or_doubled(name: str, seed: int) -> None:
    """Small caches, so that preemption and migration meet; in all of them every token comes once, in order, and no block is kept."""
    case = random_case(seed)
    limits = dataclasses.replace(case.limits, in_flight=1, reserve_full_prompt=True, policy="fcfs")
    arrangement = ARRANGEMENTS[name]
    cluster = arrangement.cluster(limits, case.step_time, kv_bytes_per_token=KV)
    sequences = list(make_sequences(case.trace, block_size=limits.block_size))
    ends = dict.fromkeys(range(arrangement.instances), 0.0)
    for instance, step in cluster.run(sequences):
        assert step.start >= ends[instance.index] and instance.scheduler.cache.used_blocks <= limits.kv_blocks
        ends[instance.index] = step.end
    for sequence in sequences:
        assert len(sequence.token_times) == sequence.output and all(a < b for a, b in pairwise(sequence.token_times))
    assert all(i.scheduler.cache.used_blocks == 0 and not i.sequences and i.engine.awaited is None for i in cluster.instances)
    again = [arrangement.serve(case.trace, limits, case.step_time, frontend=Frontend(), kv_bytes_per_token=KV) for _ in range(2)]
    assert again[0].records == again[1].records


def test_replicas_share_the_work_evenly() -> None:
    """Round robin of equal requests that arrive together is as many engines with a part each."""
    trace = requests(*[(0.0, 100, 10)] * 12)
    parted = served(Arrangement(instances=3), trace).records
    third = serve(requests(*[(0.0, 100, 10)] * 4), LIMITS, STEP, frontend=Frontend()).records
    assert sorted(map(finished, parted)) == sorted([finished(r) for r in third] * 3)


def test_least_outstanding_beats_chance_on_the_tail() -> None:
    trace = poisson(600, 60.0)
    p99 = {
        router: np.quantile([finished(r) - r.arrival for r in served(Arrangement(instances=3, router=router), trace).records], 0.99)
        for router in ("random", "least_outstanding")
    }
    assert p99["least_outstanding"] < p99["random"]


def test_prefix_aware_routing_finds_the_engine_that_holds_the_prompt() -> None:
    """Four families of prompts with 90 % in common, in turn: three engines in turn hit less than the ones that are chosen by it."""
    made = tuple(
        Request(request_id=i, arrival=0.2 * i, input_tokens=320, output_tokens=4, blocks=tuple(100 * (i % 4) + b for b in range(18)))
        for i in range(80)
    )
    trace = Trace(name="families", requests=made, block_size=16)
    hits = {
        router: sum(r.cached_tokens or 0 for r in served(Arrangement(instances=3, router=router), trace).records)
        for router in ("round_robin", "prefix_aware")
    }
    assert hits["prefix_aware"] == (80 - 4) * 288 > hits["round_robin"] == (80 - 12) * 288


def test_the_first_token_waits_for_the_transfer() -> None:
    """One request on one prefill and one decode engine: prompt, then 200 tokens over the link, then decode steps there."""
    arrangement = Arrangement(kind="distserve", instances=2, prefill=1, link_gb_s=1.0, link_latency=0.005)
    (record,) = served(arrangement, requests((1.0, 200, 5))).records
    assert record.first_token == pytest.approx(1.0 + 0.01 + 0.02 + 0.005 + 0.02)
    assert record.finished == pytest.approx((record.first_token or 0) + 4 * (0.01 + 0.0001))
    (short,) = served(arrangement, requests((1.0, 200, 1))).records
    assert short.finished == pytest.approx(1.03)  # one token is there with the prompt: nothing travels


def test_transfers_share_a_port() -> None:
    link = Link(seconds_per_token=0.001, latency=0.5)
    assert link.send(1.0, 500, 0, 2) == 2.0  # 0.5 of latency, 0.5 of tokens
    assert link.send(1.0, 500, 1, 3) == 2.0  # other ports
    assert link.send(1.2, 500, 0, 3) == 3.0  # both ports free at 2.0
    assert (link.transfers, link.seconds) == (3, 3.0)
    assert link.send(1.2, 500, 4, 3) == 4.0  # the receiver's port is free at 3.0


def test_disaggregation_keeps_prompts_away_from_decodes() -> None:
    trace = poisson(200, 20.0, input_tokens=800)
    arrangement = Arrangement(kind="distserve", instances=2, prefill=1, link_gb_s=100.0)
    cluster = arrangement.cluster(LIMITS, STEP, kv_bytes_per_token=KV)
    for instance, step in cluster.run(make_sequences(trace, block_size=16)):
        assert (step.batch.prefill_tokens == 0) == (instance.index == 1)  # nobody is preempted here, so nothing is recomputed


def test_splitwise_mixes_only_when_prompts_queue() -> None:
    """A burst of prompts beyond `most_pending` overflows into the decode engine, and is finished sooner than without."""
    burst = requests(*[(0.0, 1500, 20)] * 12)
    split = served(Arrangement(kind="splitwise", instances=2, prefill=1, link_gb_s=100.0), burst)
    apart = served(Arrangement(kind="distserve", instances=2, prefill=1, link_gb_s=100.0), burst)
    assert split.transfers < apart.transfers == 12
    assert max(map(finished, split.records)) < max(map(finished, apart.records))
    calm = requests(*[(5.0 * i, 1500, 20) for i in range(12)])
    assert served(Arrangement(kind="splitwise", instances=2, prefill=1, link_gb_s=100.0), calm).transfers == 12


def test_llumnix_makes_room_where_fragments_are_left() -> None:
    """Two engines of 100 blocks, each more than half full: a prompt of 60 blocks fits neither until a running request moves."""
    limits = dataclasses.replace(LIMITS, kv_blocks=100)
    small = [(0.0, 16 * 25, 400)] * 4
    trace = requests(*small, (1.0, 16 * 58, 2))
    still = served(Arrangement(instances=2, router="round_robin"), trace, limits)
    moving = served(Arrangement(kind="llumnix", instances=2, link_gb_s=10.0), trace, limits)
    assert moving.migrations >= 1 and still.migrations == 0
    assert (moving.records[4].first_token or 0) < (still.records[4].first_token or 0)


def test_a_migration_costs_its_pause_and_nothing_is_computed_twice() -> None:
    """The moved request's largest gap holds the pause; all engines together compute each token once."""
    limits = dataclasses.replace(LIMITS, kv_blocks=100)
    trace = requests(*[(0.0, 16 * 25, 400)] * 4, (1.0, 16 * 58, 2))
    cluster = Arrangement(kind="llumnix", instances=2, link_gb_s=10.0).cluster(limits, STEP, kv_bytes_per_token=KV)
    cluster.pause = 0.1  # longer than any step of these
    sequences = list(make_sequences(trace, block_size=16))
    computed = sum(step.batch.new_tokens for _, step in cluster.run(sequences))
    assert not any(s.preemptions for s in sequences)
    assert computed == sum(s.end - 1 for s in sequences)
    gaps = [max(b - a for a, b in pairwise(s.token_times)) for s in sequences[:4]]
    assert max(gaps) >= cluster.pause


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "ring"}, "arrangement.kind must be one of replicas, distserve, splitwise, llumnix, data_parallel, got 'ring'"),
        (
            {"router": "best"},
            "arrangement.router must be one of random, .*, prefix_aware, balanced, got 'best'",
        ),
        ({"instances": 0}, "arrangement.instances must be >= 1, got 0"),
        ({"kind": "distserve", "instances": 2, "prefill": 2, "link_gb_s": 1.0}, "1 to 1 of 2, got 2"),
        ({"kind": "llumnix", "instances": 2, "link_gb_s": 0.0}, "link_gb_s must be > 0, got 0.0"),
    ],
)
def test_impossible_arrangements_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Arrangement(**settings)  # type: ignore[arg-type]


def test_the_link_is_half_of_each_devices_interconnect() -> None:
    moving = Arrangement(kind="distserve", instances=2)
    assert moving.on({"interconnect_gb_s": 900}, tensor_parallel=2).link_gb_s == 900
    assert dataclasses.replace(moving, link_gb_s=7.0).on({"interconnect_gb_s": 900}, 1).link_gb_s == 7.0
    with pytest.raises(NotAvailable, match="arrangement distserve moves KV between instances: set interconnect_gb_s in conf/hardware"):
        moving.on({"interconnect_gb_s": None}, 1)
    assert Arrangement(instances=2).on({}, 1).link_gb_s is None


def test_impossible_mixes_are_refused() -> None:
    moving = ARRANGEMENTS["llumnix"]
    with pytest.raises(NotAvailable, match="only the policy vllm_v1 can take on; got orca"):
        moving.serve(requests((0.0, 10, 2)), LIMITS, STEP, frontend=Frontend(), policy="orca", kv_bytes_per_token=KV)
    with pytest.raises(NotAvailable, match="in_flight must be 1, got 2"):
        served(moving, requests((0.0, 10, 2)), dataclasses.replace(LIMITS, in_flight=2))

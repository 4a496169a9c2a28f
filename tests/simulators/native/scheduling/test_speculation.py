"""Laws of speculative decoding: what is accepted, what a step brings, what it costs."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from simulators.errors import NotAvailable, SimulatorError
from simulators.native.latency.wrappers.drafting import Drafting
from simulators.native.scheduling.policies import POLICIES, adapted
from simulators.native.scheduling.scheduler import Limits
from simulators.native.scheduling.speculation import Speculation
from simulators.native.serve import serve
from simulators.native.served import Frontend, Served
from tests.simulators.native.cases import Linear
from tests.simulators.native.test_native import measured, native
from workloads.trace import Request, Trace

LIMITS = Limits(kv_blocks=1000, block_size=16, max_num_seqs=8, max_num_batched_tokens=256, max_model_len=2048, in_flight=2)
STATED: list[dict[str, Any]] = [
    {"acceptance_rate": 0.6},
    {"synthetic_acceptance_rates": [0.9, 0.5, 0.5]},
    {"accepted_lengths": [0, 3, 3, 1]},
]


def requests(*outputs: int, prompt: int = 40) -> Trace:
    made = tuple(Request(request_id=i, arrival=0.0, input_tokens=prompt, output_tokens=n) for i, n in enumerate(outputs))
    return Trace(name="some", requests=made)


def served(trace: Trace, speculation: Speculation, step_time: Any = None, *, engine: Any = "any", **changes: Any) -> Served:
    limits = dataclasses.replace(LIMITS, speculation=speculation, **changes)
    return serve(trace, limits, step_time or Linear(fixed=0.01), frontend=Frontend(), engine=engine)


@pytest.mark.parametrize("stated", STATED)
def test_drafts_are_accepted_as_often_as_stated(stated: dict[str, Any]) -> None:
    speculation = Speculation(num_speculative_tokens=3, seed=4, **stated)
    accepted = speculation.table([5, 9], np.array([60_000, 60_000]))
    for place, chance in enumerate(speculation.reached, start=1):
        assert abs(np.mean(accepted >= place) - chance) < 0.01
    one_by_one = [speculation.accepted(request, n) for request in (5, 9) for n in range(60)]
    assert one_by_one == [*accepted[:60].tolist(), *accepted[60_000:60_060].tolist()]


def test_draws_are_the_request_s_own_and_change_with_the_seed() -> None:
    speculation = Speculation(num_speculative_tokens=4, acceptance_rate=0.5)
    tables = [speculation.table([0], np.array([500])), speculation.table([1], np.array([500]))]
    tables.append(dataclasses.replace(speculation, seed=1).table([0], np.array([500])))
    for one in range(3):
        for other in range(one):
            assert abs(np.corrcoef(tables[one], tables[other])[0, 1]) < 0.15


@pytest.mark.parametrize("drafts", [1, 3, 7])
@pytest.mark.parametrize("in_flight", [1, 2])
def test_a_step_brings_all_drafts_where_all_are_accepted(drafts: int, in_flight: int) -> None:
    """One prefill, then 1 + k tokens a step; the last step may bring fewer."""
    all_right = served(requests(50), Speculation(num_speculative_tokens=drafts, acceptance_rate=1.0), in_flight=in_flight)
    record = all_right.records[0]
    assert record.token_times is not None and len(record.token_times) == 50
    steps = 1 + -(-49 // (1 + drafts))
    assert len(set(record.token_times)) == steps
    assert record.finished == pytest.approx(0.01 * steps)


def test_drafts_that_are_all_rejected_change_no_time_where_they_cost_none() -> None:
    trace = requests(30, 12, 50)
    plain = served(trace, Speculation(), in_flight=1)
    rejected = served(trace, Speculation(num_speculative_tokens=4, acceptance_rate=0.0, method="ngram"), in_flight=1)
    assert [r.token_times for r in rejected.records] == [r.token_times for r in plain.records]


def test_more_accepted_drafts_end_sooner_and_costlier_ones_later() -> None:
    def end(rate: float, step_time: Any = None) -> float:
        return served(requests(*[200] * 8), Speculation(num_speculative_tokens=3, acceptance_rate=rate), step_time).end

    assert end(0.9) < end(0.6) < end(0.3) < end(0.0)
    assert end(0.6) < end(0.6, Linear(fixed=0.01, per_token=1e-4)) < end(0.6, Drafting(Linear(fixed=0.01), seconds_per_step=0.005))
    mean = 1 + sum(0.6**n for n in (1, 2, 3))
    assert end(0.6) == pytest.approx(0.01 * 200 / mean, rel=0.12)  # the longest of eight


def test_a_drafter_with_a_kv_cache_holds_more_of_it() -> None:
    def peak(method: Any) -> int:
        speculation = Speculation(num_speculative_tokens=6, acceptance_rate=0.2, method=method)
        return served(requests(*[60] * 6, prompt=20), speculation, block_size=4).peak_kv_blocks

    assert peak("eagle") == peak("mtp") > peak("ngram")


def test_drafting_is_a_constant_of_both_engines_law() -> None:
    drafting, trace = Drafting(Linear(fixed=0.01, per_token=1e-4), seconds_per_step=0.003), requests(40, 60, 9)
    speculation = Speculation(num_speculative_tokens=2, acceptance_rate=0.7)
    readable, compiled = (served(trace, speculation, drafting, engine=engine) for engine in ("readable", "compiled"))
    assert list(readable.records) == list(compiled.records)
    assert drafting.describe() == {"drafting_s_per_step": 0.003}


def test_a_request_that_needs_the_whole_cache_is_served_up_to_max_model_len() -> None:
    speculation = Speculation(num_speculative_tokens=5, acceptance_rate=0.5)
    alone = served(requests(60, prompt=68), speculation, kv_blocks=8, max_model_len=128)
    assert alone.records[0].error is None and alone.records[0].output_tokens == 60
    tight = served(requests(50, prompt=68), speculation, kv_blocks=8, max_model_len=2048)
    assert tight.records[0].error is not None and "do not fit the KV cache" in tight.records[0].error


@pytest.mark.parametrize("policy", sorted(set(POLICIES) - {"vllm_v1", "sglang"}))
def test_other_policies_have_none(policy: str) -> None:
    limits = dataclasses.replace(adapted(policy, LIMITS), speculation=Speculation(num_speculative_tokens=2, acceptance_rate=0.5))
    with pytest.raises(ValueError, match="num_speculative_tokens must be 0"):
        POLICIES[policy](limits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_speculative_tokens": -1}, "num_speculative_tokens must be >= 0"),
        ({"num_speculative_tokens": 2}, "needs one of acceptance_rate, synthetic_acceptance_rates and accepted_lengths"),
        ({"num_speculative_tokens": 2, "acceptance_rate": 0.5, "accepted_lengths": [1]}, "and only that; got .* 2 of them"),
        ({"acceptance_rate": 0.5}, "needs one of"),
        ({"num_speculative_tokens": 2, "acceptance_rate": 1.5}, "from 1 down to 0"),
        ({"num_speculative_tokens": 2, "synthetic_acceptance_rates": [0.5]}, "must be 2 numbers"),
        ({"num_speculative_tokens": 2, "synthetic_acceptance_rates": [0.5, 0.6]}, "none above the one before"),
        ({"method": "medusa"}, "method must be ngram, eagle or mtp, got 'medusa'"),
        ({"draft_step": -1.0}, "draft_step must be >= 0 s"),
        ({"speculative_eagle_topk": 0}, "speculative_eagle_topk must be >= 1, got 0"),
        ({"num_speculative_tokens": 3, "acceptance_rate": 0.5, "speculative_num_draft_tokens": 3}, "must be above .*; got 3 and 3"),
        ({"speculative_num_draft_tokens": 3}, "must be above .* and that above 0; got 3 and 0"),
    ],
)
def test_bad_statements_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Speculation(**changes)


def test_a_run_whose_engine_verified_drafts_needs_their_acceptance(tmp_path: Any) -> None:
    run = measured()
    account = {"details": {"vllm_config": {"speculative_config": {"num_speculative_tokens": 3}}}}
    run = dataclasses.replace(run, config={**run.config, "engine": account})
    with pytest.raises(NotAvailable, match=r"verified drafts, and the settings have none or others; .*num_speculative_tokens=3 "):
        native().simulate(run, track="matched", profile=None, scratch=tmp_path)
    speculation = {"num_speculative_tokens": 3, "acceptance_rate": 0.7, "draft_step": 0.001}
    made = native(speculation=speculation).simulate(run, track="matched", profile=None, scratch=tmp_path)
    assert made.config["simulator"]["limits"]["speculation"]["num_speculative_tokens"] == 3
    assert made.config["simulator"]["step_time"]["drafting_s_per_step"] == pytest.approx(0.003)


SGLANG = {"speculative_algorithm": "EAGLE", "speculative_num_steps": 3, "speculative_eagle_topk": 4, "speculative_num_draft_tokens": 16}


@pytest.mark.parametrize(
    ("said", "stated", "agree"),
    [
        (SGLANG, {"num_speculative_tokens": 3, "speculative_eagle_topk": 4, "speculative_num_draft_tokens": 16}, True),
        (SGLANG, {"num_speculative_tokens": 3}, False),
        (SGLANG, {"num_speculative_tokens": 3, "speculative_eagle_topk": 2, "speculative_num_draft_tokens": 16}, False),
        (SGLANG, {"num_speculative_tokens": 3, "speculative_eagle_topk": 4, "speculative_num_draft_tokens": 8}, False),
        (SGLANG, {"num_speculative_tokens": 2, "speculative_eagle_topk": 4, "speculative_num_draft_tokens": 16}, False),
        (SGLANG | {"speculative_eagle_topk": 1, "speculative_num_draft_tokens": 4}, {"num_speculative_tokens": 3}, True),
        ({"speculative_algorithm": "NGRAM", "speculative_num_draft_tokens": 12}, None, False),
        (dict.fromkeys(SGLANG), None, True),
    ],
)
def test_drafts_that_are_not_those_of_the_engine_are_refused(
    said: dict[str, Any], stated: dict[str, Any] | None, agree: bool, tmp_path: Any
) -> None:
    run = dataclasses.replace(measured(), system="sglang")
    run = dataclasses.replace(run, config={**run.config, "engine": {"details": {"server_info": said}}})
    simulator = native(speculation={**stated, "acceptance_rate": 0.7}) if stated else native()
    if agree:
        simulator.simulate(run, track="matched", profile=None, scratch=tmp_path)
    else:
        with pytest.raises(NotAvailable, match="verified drafts, and the settings have none or others"):
            simulator.simulate(run, track="matched", profile=None, scratch=tmp_path)


def test_a_policy_without_it_is_one_line_in_the_bench(tmp_path: Any) -> None:
    speculation = {"num_speculative_tokens": 3, "acceptance_rate": 0.7}
    tree = native(speculation={**speculation, "speculative_eagle_topk": 2})
    with pytest.raises(SimulatorError, match="vLLM verifies one path of drafts"):
        tree.simulate(measured(), track="matched", profile=None, scratch=tmp_path)
    with pytest.raises(SimulatorError, match="policy sarathi has no speculation"):
        native(policy="sarathi", speculation=speculation).simulate(measured(), track="matched", profile=None, scratch=tmp_path)

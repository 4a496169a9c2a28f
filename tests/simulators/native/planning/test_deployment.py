"""Deployment: what the settings say of parallelism and speculation reaches the simulated engine."""

import pytest

from simulators.errors import SimulatorError
from simulators.native.architecture.reader import decoder_of
from simulators.native.planning import settings
from simulators.native.planning.deployment import Deployment
from workloads.trace import Request, Trace

TRACE = Trace(
    name="few",
    requests=tuple(Request(request_id=i, arrival=2.0 * i, input_tokens=400, output_tokens=40) for i in range(8)),
    block_size=None,
)


def deployment(*words: str, model: str = "llama_3_1_70b") -> Deployment:
    return settings.deployment(settings.settings([f"model={model}", "hardware=h100", *words]))


def mean_tpot(made: Deployment) -> float:
    records = made.serve(TRACE).served.records
    return sum((r.finished - r.first_token) / (r.output_tokens - 1) for r in records) / len(records)  # type: ignore[operator]


def test_drafts_that_are_accepted_make_tokens_come_faster() -> None:
    plain, drafted = (
        deployment("tensor_parallel=4"),
        deployment(
            "tensor_parallel=4", "speculation.num_speculative_tokens=3", "speculation.acceptance_rate=1", "speculation.draft_step=0.001"
        ),
    )
    one_draft = ("speculation.num_speculative_tokens=1", "speculation.acceptance_rate=1")
    assert 2.5 < mean_tpot(plain) / mean_tpot(drafted) < 4
    with pytest.raises(SimulatorError, match="the policy sglang has no speculation"):
        deployment("policy=sglang", "tensor_parallel=4", *one_draft).serve(TRACE)


def test_stages_share_weights_and_kv_and_need_their_devices() -> None:
    with pytest.raises(SimulatorError, match="do not fit"):
        deployment("tensor_parallel=1").limits(TRACE)
    split, staged = deployment("tensor_parallel=4"), deployment("tensor_parallel=2", "pipeline_parallel_size=2")
    assert split.devices == staged.devices == 4
    assert staged.limits(TRACE).kv_blocks == pytest.approx(split.limits(TRACE).kv_blocks, rel=0.05)
    assert staged.limits(TRACE).in_flight == 3  # one more than stages: asynchronous scheduling
    assert mean_tpot(staged) > 1.3 * mean_tpot(split)  # a lone request passes the stages one after the other


def test_replicas_that_share_experts_spread_them_and_serve_each_its_own_requests() -> None:
    one = deployment("tensor_parallel=2", model="qwen3_30b_a3b")
    two = deployment("tensor_parallel=1", "data_parallel_size=2", "enable_expert_parallel=true", model="qwen3_30b_a3b")
    assert one.devices == two.devices == 2 and two.parallel.expert == 2
    assert two.parallel.weight_bytes(decoder_of(two.model)) < 1.2 * one.parallel.weight_bytes(decoder_of(one.model))
    assert len(two.serve(TRACE).served.records) == len(TRACE)


def test_layers_with_a_window_are_told_of_and_others_are_not() -> None:
    assert "layers with a window of 128 tokens" in (deployment(model="gpt_oss_120b").caveat() or "")
    for plain in ("llama_3_1_70b", "deepseek_v3_2"):  # the latter's indexer selects from a context that is kept whole
        assert deployment("tensor_parallel=8", model=plain).caveat() is None

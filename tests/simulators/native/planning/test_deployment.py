"""Deployment: what the settings say of parallelism and speculation reaches the simulated engine."""

import pytest

from simulators.errors import SimulatorError
from simulators.native.architecture.reader import decoder_of
from simulators.native.kv.groups import KVGroup
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
    with pytest.raises(SimulatorError, match="the policy vllm_v0 has no speculation"):
        deployment("policy=vllm_v0", "tensor_parallel=4", *one_draft).serve(TRACE)


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


def test_layers_with_a_window_keep_that_alone_where_vllm_has_it_so() -> None:
    made = deployment(model="gpt_oss_120b")
    groups, whole = made.limits(TRACE), deployment("policy=sglang", model="gpt_oss_120b").limits(TRACE)
    assert groups.kv_groups == (KVGroup(window=128), KVGroup()) and made.caveat() is None
    assert whole.kv_groups == () and groups.kv_blocks == pytest.approx(2 * whole.kv_blocks, abs=1)  # half of the layers in each block
    assert made.serve(TRACE).served.peak_kv_blocks < 2 * 28  # 440 tokens are 28 blocks in the layers with all of it
    for plain in ("llama_3_1_70b", "deepseek_v3_2"):  # the latter's indexer selects from a context that is kept whole
        assert deployment("tensor_parallel=8", model=plain).caveat() is None
    assert deployment("tensor_parallel=8").limits(TRACE).kv_groups == ()


def test_a_state_takes_blocks_where_prefixes_are_not_shared() -> None:
    made, shared = (deployment("tensor_parallel=4", *more, model="qwen3_next_80b_a3b") for more in ((), ("limits.prefix_caching=true",)))
    assert "Prefix caching is off" in (made.caveat() or "") and not made.limits(TRACE).prefix_caching
    assert made.limits(TRACE).block_size == 272 and len(made.limits(TRACE).kv_groups) == 4
    assert "room for its states, beside the blocks" in (shared.caveat() or "")
    assert shared.limits(TRACE).prefix_caching and shared.limits(TRACE).kv_groups == ()
    one = made.serve(Trace(name="one", requests=TRACE.requests[:1])).served.peak_kv_blocks
    assert one == 2 + 3  # 440 tokens, and a state for each of three groups


@pytest.mark.parametrize(
    ("words", "model", "why"),
    [
        (("policy=sglang",), "gpt_oss_120b", "not modelled of the policy sglang), so more requests fit than are simulated"),
        (("effects.window=4000", "tensor_parallel=2"), "gpt_oss_120b", "not modelled with effects that keep a part of it)"),
        (("arrangement.kind=distserve", "arrangement.instances=2"), "gpt_oss_120b", "manager is off where engines hand KV over)."),
        ((), "gemma_4_26b_a4b", "not modelled of layers whose pages differ in size)"),
        (
            ("speculation.num_speculative_tokens=2", "speculation.acceptance_rate=0.5"),
            "gpt_oss_120b",
            "not modelled with shared prefixes of a drafter with a KV cache)",
        ),
    ],
)
def test_where_windows_are_counted_whole_it_says_why(words: tuple[str, ...], model: str, why: str) -> None:
    made = deployment(*words, model=model)
    assert why in (made.caveat() or "") and made.limits(TRACE).kv_groups == ()
    assert made.serve(TRACE).served.records[0].error is None

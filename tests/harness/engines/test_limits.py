"""What servers say of themselves, in their own words (vLLM 0.32 and SGLang 0.5.23, shortened), read back as limits."""

from typing import Any

import pytest

from harness.engines.limits import combine, from_log, from_metrics, from_models, from_server_info, without_rounded, without_secrets
from results.record import EngineLimits
from results.recordings.server_info import sglang_limits

LOG = (
    "(APIServer pid=1) INFO 11-21 [api_utils.py:286] non-default args: {'port': 1, 'max_num_batched_tokens': 1024, 'max_num_seqs': 32}\n"
    "(EngineCore pid=2) INFO 11-21 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: model='/m', dtype=torch.bfloat16, "
    "max_seq_len=4096, tensor_parallel_size=2, pipeline_parallel_size=1, data_parallel_size=4, seed=0, "
    "enable_prefix_caching=True, enable_chunked_prefill=True\n"
    "(EngineCore pid=2) INFO 11-21 [kv_cache_utils.py:2327] CPU KV cache size: 87,360 tokens, Maximum concurrency for 4,096 tokens\n"
)
METRICS = (
    'vllm:cache_config_info{block_size="32",enable_prefix_caching="True",engine="0",num_gpu_blocks="2730",sliding_window="None"} 1.0\n'
    "vllm:num_requests_running 0.0\n"
)
INFO: dict[str, Any] = {
    "vllm_config": {
        "model_config": {"max_model_len": 4096},
        "cache_config": {"block_size": 32, "enable_prefix_caching": True},
        "parallel_config": {
            "tensor_parallel_size": 2,
            "pipeline_parallel_size": 1,
            "data_parallel_size": 4,
            "enable_expert_parallel": True,
        },
        "scheduler_config": {"max_num_seqs": 32, "max_num_batched_tokens": 1024, "enable_chunked_prefill": True},
    }
}
LIMITS = EngineLimits(
    kv_tokens=87360,
    block_size=32,
    max_num_seqs=32,
    max_num_batched_tokens=1024,
    max_model_len=4096,
    chunked_prefill=True,
    prefix_caching=True,
    tensor_parallel=2,
    data_parallel=4,
    expert_parallel=8,
)


def test_all_sources_together_tell_everything() -> None:
    sources = {"info": from_server_info(INFO), "metrics": from_metrics(METRICS), "log": from_log(LOG)}
    assert combine(sources) == (LIMITS, ())


def test_what_no_source_tells_is_unknown_and_none() -> None:
    limits, unknown = combine({"/metrics": from_metrics(METRICS)})
    assert (limits.kv_tokens, limits.block_size, limits.prefix_caching) == (87360, 32, True)
    assert limits.max_num_seqs is None and limits.chunked_prefill is None
    assert "max_num_seqs: not told by /metrics" in unknown
    assert not any(word.startswith("kv_tokens") for word in unknown)


def test_sources_that_disagree_make_it_unknown() -> None:
    limits, unknown = combine({"/metrics": from_metrics(METRICS), "its log": from_log(LOG.replace("87,360", "80,000"))})
    assert limits.kv_tokens is None
    assert "kv_tokens: /metrics says 87360, its log says 80000" in unknown


@pytest.mark.parametrize(
    ("longest", "logged", "agreed"),
    [
        (4096, 87360, True),
        (4100, 86767, True),  # 2730 blocks hold 2730 / 129 requests of 4,100 tokens, each in 129 blocks of 32
        (4100, 87360, False),
        (4100, 21691, False),  # layers in four KV groups
        (None, 86767, False),  # nobody says how long a request may be
    ],
)
def test_a_capacity_that_is_logged_in_whole_requests_is_that_of_the_blocks(longest: int | None, logged: int, agreed: bool) -> None:
    metrics = from_metrics(METRICS)
    said = {"/metrics": metrics, "its log": without_rounded({"kv_tokens": logged, "max_num_seqs": 32}, metrics, longest)}
    limits, unknown = combine(said)
    assert limits.kv_tokens == (87360 if agreed or logged == 87360 else None) and limits.max_num_seqs == 32
    assert ("kv_tokens" not in said["its log"]) == agreed and any(word.startswith("kv_tokens") for word in unknown) == (
        limits.kv_tokens is None
    )


def test_a_log_before_the_engine_is_up_says_little() -> None:
    assert from_log("(APIServer pid=1) INFO starting\n") == {}
    assert from_log(LOG.replace("True", "False"))["chunked_prefill"] is False


def test_older_log_wording() -> None:
    old = "max_seq_len=2048, tensor_parallel_size=2, chunked_prefill_enabled=True\n"
    old += "Chunked prefill is enabled with max_num_batched_tokens=512.\n"
    expected = {"max_model_len": 2048, "tensor_parallel": 2, "chunked_prefill": True, "max_num_batched_tokens": 512}
    assert from_log(old + "INFO GPU KV cache size: 1,000 tokens\n") == expected | {"kv_tokens": 1000}


def test_server_info_as_text_of_older_servers() -> None:
    assert from_server_info({"vllm_config": "model='/m', max_seq_len=4096, enable_prefix_caching=False"}) == {
        "max_model_len": 4096,
        "prefix_caching": False,
    }
    assert from_server_info({}) == {}


def test_metrics_before_the_blocks_are_counted() -> None:
    assert from_metrics(METRICS.replace('"2730"', '"None"')) == {"block_size": 32, "prefix_caching": True}


def test_models() -> None:
    assert from_models([{"id": "m", "max_model_len": 4096}]) == {"max_model_len": 4096}
    assert from_models([{"id": "m"}]) == {} == from_models([])


def test_sglang() -> None:
    info = {
        "max_total_num_tokens": 65536,
        "page_size": 1,
        "max_running_requests": 48,
        "chunked_prefill_size": 2048,
        "max_prefill_tokens": 16384,
        "context_length": None,
        "disable_radix_cache": False,
        "tp_size": 8,
        "pp_size": 1,
        "dp_size": 1,
        "attn_dp_size": 4,
        "ep_size": 8,
    }
    assert sglang_limits(info) == {
        "kv_tokens": 65536,
        "block_size": 1,
        "max_num_seqs": 48,
        "max_num_batched_tokens": 2048,
        "chunked_prefill": True,
        "prefix_caching": True,
        "tensor_parallel": 8,
        "pipeline_parallel": 1,
        "data_parallel": 4,
        "expert_parallel": 8,
    }
    unchunked = sglang_limits(info | {"chunked_prefill_size": -1})
    assert unchunked["chunked_prefill"] is False and unchunked["max_num_batched_tokens"] == 16384


def test_secrets_are_left_out_at_any_depth() -> None:
    details = {"a": [{"hf_token": "x", "max_num_batched_tokens": 1}], "api_key": "y", "ssl_keyfile": "z", "port": 1}
    assert without_secrets(details) == {"a": [{"max_num_batched_tokens": 1}], "port": 1}

"""What an engine's server says of its own limits, wherever that is written down: live, or in the file of a client that asked it."""

from collections.abc import Mapping
from typing import Any


def sglang_limits(info: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of EngineLimits in an answer of SGLang's GET /get_server_info; what it does not name is left out.

    A chunk of prefill is its budget of new tokens in a step; -1: no chunks. Replicas of the model and groups that share one model's devices
    (attn_dp_size) both have schedulers of their own.
    """
    chunk, no_cache, replicas = (info.get(name) for name in ("chunked_prefill_size", "disable_radix_cache", "dp_size"))
    found = {
        "kv_tokens": info.get("max_total_num_tokens"),
        "block_size": info.get("page_size"),
        "max_num_seqs": info.get("max_running_requests"),
        "max_num_batched_tokens": chunk if chunk is not None and chunk > 0 else info.get("max_prefill_tokens"),
        "max_model_len": info.get("context_length"),
        "chunked_prefill": None if chunk is None else chunk > 0,
        "prefix_caching": None if no_cache is None else not no_cache,
        "tensor_parallel": info.get("tp_size"),
        "pipeline_parallel": info.get("pp_size"),
        "data_parallel": None if replicas is None else replicas * (info.get("attn_dp_size") or 1),
        "expert_parallel": info.get("ep_size"),
    }
    return {name: value for name, value in found.items() if value is not None}

# mypy: disable-error-code="import-not-found"
"""Asks vLLM's own kv_cache_utils how it lays layers out in blocks. Run by the engine's interpreter.

    .envs/vllm_cpu/bin/python drive_kv_cache_utils.py < models.json > layouts.json

It needs nothing of Plumbline. In: a list of {layers, chunked, block_size, memory}; a layer is {kv_heads, head_dim, window}, or {state} in
bytes; chunked: whether windows are chunks. Out: a list of {off, groups, num_blocks}.
"""

import json
import os
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"

import torch
from vllm.config import CacheConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.v1.core.kv_cache_utils import get_kv_cache_configs
from vllm.v1.kv_cache_interface import ChunkedLocalAttentionSpec, FullAttentionSpec, KVCacheSpec, MambaSpec, SlidingWindowSpec

LONGEST = 16_384  # max_model_len
MODEL = json.loads((Path(__file__).parents[1] / "one_layer.json").read_text())  # a config.json


@cache
def configured(chunked: bool) -> VllmConfig:
    """vLLM's configuration for a model with, or without, attention in chunks; it decides on the hybrid KV cache manager."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(MODEL | {"attention_chunk_size": 8192 if chunked else None}))
        model = ModelConfig(model=folder, skip_tokenizer_init=True, dtype="float32", max_model_len=LONGEST)
    scheduling = SchedulerConfig(max_num_batched_tokens=2048, max_num_seqs=16, max_model_len=LONGEST, is_encoder_decoder=False)
    memory = CacheConfig(block_size=16, enable_prefix_caching=False)
    memory.kv_cache_layout = "LBNHC"
    return VllmConfig(model_config=model, scheduler_config=scheduling, cache_config=memory)


def kv_spec(layer: dict[str, Any], asked: dict[str, Any], page: int) -> KVCacheSpec:
    """What vLLM keeps of a context in such a layer."""
    if "state" in layer:
        state = ((layer["state"],),)
        return MambaSpec(block_size=LONGEST, shapes=state, dtypes=(torch.uint8,), page_size_padded=page)
    sizes = {
        "block_size": asked["block_size"],
        "num_kv_heads": layer["kv_heads"],
        "head_size": layer["head_dim"],
        "dtype": torch.bfloat16,
    }
    if layer["window"] is None:
        return FullAttentionSpec(**sizes)
    if asked["chunked"]:
        return ChunkedLocalAttentionSpec(**sizes, attention_chunk_size=layer["window"])
    return SlidingWindowSpec(**sizes, sliding_window=layer["window"])


def laid_out(asked: dict[str, Any]) -> dict[str, Any]:
    """The groups of a model's layers, in order, and the blocks in so much memory."""
    config = configured(asked["chunked"])
    page = max(2 * 2 * x["kv_heads"] * x["head_dim"] * asked["block_size"] for x in asked["layers"] if "state" not in x)
    specs = {f"model.layers.{i}.attn": kv_spec(layer, asked, page) for i, layer in enumerate(asked["layers"])}
    [found] = get_kv_cache_configs(config, [specs], [asked["memory"]])
    kinds = {FullAttentionSpec: "all", SlidingWindowSpec: "window", ChunkedLocalAttentionSpec: "chunk", MambaSpec: "state"}
    return {
        "off": config.scheduler_config.disable_hybrid_kv_cache_manager,
        "groups": [[kinds[type(g.kv_cache_spec)], len(g.layer_names)] for g in found.kv_cache_groups],
        "num_blocks": found.num_blocks,
    }


if __name__ == "__main__":
    json.dump([laid_out(asked) for asked in json.load(sys.stdin)], sys.stdout)

"""What a server says of its own limits: /v1/models, vLLM's /server_info, /metrics and log (SGLang's: results/recordings/server_info.py).

Pure functions from an answer to the fields of EngineLimits that it names. Nothing is guessed; what no source names stays None.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.monitor.telemetry import parse_metrics
from results.record import EngineLimits

LOG_KV = re.compile(r"KV cache size: ([\d,]+) tokens")
LOG_FIELDS = {
    "max_model_len": re.compile(r"\bmax_seq_len=(\d+)"),
    "tensor_parallel": re.compile(r"\btensor_parallel_size=(\d+)"),
    "pipeline_parallel": re.compile(r"\bpipeline_parallel_size=(\d+)"),
    "data_parallel": re.compile(r"\bdata_parallel_size=(\d+)"),
    "prefix_caching": re.compile(r"\benable_prefix_caching=(True|False)"),
    "chunked_prefill": re.compile(r"\b(?:enable_chunked_prefill|chunked_prefill_enabled)=(True|False)"),
    "max_num_batched_tokens": re.compile(r"Chunked prefill is enabled with max_num_batched_tokens=(\d+)|'max_num_batched_tokens': (\d+)"),
    "max_num_seqs": re.compile(r"'max_num_seqs': (\d+)"),  # in the server's echo of the arguments it was given
}
SECRET = re.compile(r"(^|_)(token|api_key|key|secret|password|keyfile)$", re.IGNORECASE)
NAMES = tuple(field.name for field in dataclasses.fields(EngineLimits))


def from_models(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Limits in the `data` of GET /v1/models: vLLM and SGLang add max_model_len."""
    return _known({"max_model_len": models[0].get("max_model_len")} if models else {})


def from_server_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """Limits in an answer of vLLM's GET /server_info?config_format=json (VLLM_SERVER_DEV_MODE=1; {} when it has none)."""
    config = info.get("vllm_config", {})
    if isinstance(config, str):  # before 0.11 it printed the configuration as its log does
        return from_log(config)
    scheduler, cache = config.get("scheduler_config", {}), config.get("cache_config", {})
    found = {
        "block_size": cache.get("block_size"),
        "max_num_seqs": scheduler.get("max_num_seqs"),
        "max_num_batched_tokens": scheduler.get("max_num_batched_tokens"),
        "max_model_len": config.get("model_config", {}).get("max_model_len"),
        "chunked_prefill": scheduler.get("enable_chunked_prefill"),
        "prefix_caching": cache.get("enable_prefix_caching"),
        **_parallel(config.get("parallel_config", {})),
    }
    return _known(found)


def _parallel(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of vLLM's parallel_config. Its experts are spread over all devices of a stage, those of all its engine cores, or not at all."""
    tensor, data = config.get("tensor_parallel_size"), config.get("data_parallel_size")
    spread, stage = config.get("enable_expert_parallel"), (tensor or 1) * (data or 1)
    return {
        "tensor_parallel": tensor,
        "pipeline_parallel": config.get("pipeline_parallel_size"),
        "data_parallel": data,
        "expert_parallel": None if spread is None else stage if spread else 1,
    }


def from_metrics(text: str) -> dict[str, Any]:
    """Limits in /metrics: the labels of vllm:cache_config_info. kv_tokens = num_gpu_blocks * block_size."""
    labels = next((sample.labels for sample in parse_metrics(text) if sample.name == "vllm:cache_config_info"), {})
    found: dict[str, Any] = {}
    blocks, size = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
    if size.isdigit():
        found["block_size"] = int(size)
        if blocks.isdigit():
            found["kv_tokens"] = int(blocks) * int(size)
    if labels.get("enable_prefix_caching") in ("True", "False"):
        found["prefix_caching"] = labels["enable_prefix_caching"] == "True"
    return found


def from_log(text: str) -> dict[str, Any]:
    """Limits in the server's own log, of any vLLM from 0.8 on."""
    found: dict[str, Any] = {}
    kv = LOG_KV.search(text)
    if kv is not None:
        found["kv_tokens"] = int(kv.group(1).replace(",", ""))
    for name, pattern in LOG_FIELDS.items():
        match = pattern.search(text)
        if match is not None:
            word = next(group for group in match.groups() if group is not None)
            found[name] = word == "True" if word in ("True", "False") else int(word)
    return found


def without_rounded(log: Mapping[str, Any], metrics: Mapping[str, Any], max_model_len: int | None) -> Mapping[str, Any]:
    """What a vLLM's log says, without its KV capacity where that is /metrics' own in other words.

    vLLM 0.32 logs how many tokens the pool holds in requests of max_model_len, each in whole blocks. Where that is what a pool of /metrics'
    blocks holds, the two agree. With layers in several KV groups, or several engines, it is not; then they say different things.
    """
    logged, tokens, size = log.get("kv_tokens"), metrics.get("kv_tokens"), metrics.get("block_size")
    if not (logged and tokens and size and max_model_len):
        return log
    held = tokens // size / math.ceil(max_model_len / size) * max_model_len
    return {name: value for name, value in log.items() if name != "kv_tokens"} if abs(logged - held) <= 1 else log


def combine(sources: Mapping[str, Mapping[str, Any]]) -> tuple[EngineLimits, tuple[str, ...]]:
    """Limits that the sources agree on, and in words those that none names or on which two disagree (they stay None)."""
    known: dict[str, Any] = {}
    unknown = []
    for name in NAMES:
        said = {source: found[name] for source, found in sources.items() if name in found}
        if len(set(said.values())) == 1:
            known[name] = next(iter(said.values()))
        elif said:
            unknown.append(f"{name}: " + ", ".join(f"{source} says {value}" for source, value in said.items()))
        else:
            unknown.append(f"{name}: not told by {', '.join(sources) or 'the server'}")
    return EngineLimits(**known), tuple(unknown)


def without_secrets(details: Any) -> Any:
    """The same JSON-able value without entries that may hold a credential (their names speak of a token, key, secret or password)."""
    if isinstance(details, Mapping):
        return {name: without_secrets(value) for name, value in details.items() if not SECRET.search(name)}
    if isinstance(details, list):
        return [without_secrets(value) for value in details]
    return details


def _known(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value is not None}

"""The command lines that start the engines of a way to serve, in vLLM's words and in SGLang's."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from simulators.native.planning.deployment import Deployment
from simulators.native.scheduling.scheduler import Limits
from simulators.native.scheduling.speculation import Speculation

MODEL, DRAFTER = "MODEL", "DRAFT_MODEL"  # stand for a folder or a name of the hub
# what an engine calls a format of weights; None: it makes them of the model's own as it loads them, or has no word for it
VLLM_WEIGHTS = {
    "fp8": "fp8",
    "smoothquant_int8": "compressed-tensors",
    "awq_int4": "awq",
    "mxfp4": "mxfp4",
    "nvfp4": "modelopt_fp4",
}
SGLANG_WEIGHTS = {"fp8": "fp8", "smoothquant_int8": "w8a8_int8", "awq_int4": "awq", "mxfp4": "mxfp4", "nvfp4": "modelopt_fp4"}
KV = {"fp8": ("fp8", "fp8_e4m3")}  # of the KV cache: vLLM's word, SGLang's
SGLANG_DRAFTERS = {"eagle": "EAGLE", "mtp": "NEXTN", "ngram": "NGRAM"}
ROLES = {"prefill": "kv_producer", "decode": "kv_consumer"}


def vllm(deployment: Deployment, limits: Limits) -> list[str] | None:
    """A line for each kind of engine; None: vLLM has no words for some of its settings."""
    effects, parallel = deployment.effects, deployment.parallel
    if not _sayable(deployment):
        return None
    drafts = limits.speculation
    options: dict[str, Any] = {
        "tensor-parallel-size": parallel.tensor,
        "pipeline-parallel-size": _several(parallel.pipeline),
        "data-parallel-size": _several(parallel.data),
        "enable-expert-parallel": True if parallel.expert > 1 else None,
        "max-model-len": limits.max_model_len,
        "max-num-batched-tokens": limits.max_num_batched_tokens,
        "max-num-seqs": limits.max_num_seqs,
        "gpu-memory-utilization": deployment.native.shipped.memory_utilization,
        "enable-prefix-caching": limits.prefix_caching,
        "quantization": VLLM_WEIGHTS[effects.weights] if effects.weights else None,
        "kv-cache-dtype": KV[effects.kv][0] if effects.kv else None,
        "speculative-config": _drafts_of_vllm(drafts) if drafts.num_speculative_tokens else None,
    }
    lines = []
    for role in _roles(deployment):
        transfer = json.dumps({"kv_connector": "NixlConnector", "kv_role": ROLES[role]}) if role else None
        lines.append(shlex.join(["vllm", "serve", MODEL, *_flags({**options, "kv-transfer-config": transfer})]))
    return lines


def _drafts_of_vllm(drafts: Speculation) -> str:
    own: Mapping[str, Mapping[str, Any]] = {"eagle": {"model": DRAFTER}, "ngram": {"prompt_lookup_max": 4}, "mtp": {}}
    return json.dumps({"method": drafts.method, "num_speculative_tokens": drafts.num_speculative_tokens, **own[drafts.method]})


def sglang(deployment: Deployment, limits: Limits) -> list[str] | None:
    """A line for each kind of engine; None: SGLang has no words for some of its settings."""
    effects, parallel = deployment.effects, deployment.parallel
    if not _sayable(deployment):
        return None
    together = parallel.data > 1 and deployment.sizes()[0].experts is not None  # its replicas are groups of the tp_size devices
    drafts = limits.speculation.num_speculative_tokens
    ngram = limits.speculation.method == "ngram"
    options: dict[str, Any] = {
        "tp-size": parallel.tensor * parallel.data if together else parallel.tensor,
        "pp-size": _several(parallel.pipeline),
        "dp-size": _several(parallel.data),
        "enable-dp-attention": True if together else None,
        "ep-size": _several(parallel.expert),
        "context-length": limits.max_model_len,
        "chunked-prefill-size": limits.max_num_batched_tokens,
        "max-running-requests": limits.max_num_seqs,
        "mem-fraction-static": deployment.native.shipped.memory_utilization,
        "disable-radix-cache": None if limits.prefix_caching else True,
        "quantization": SGLANG_WEIGHTS[effects.weights] if effects.weights else None,
        "kv-cache-dtype": KV[effects.kv][1] if effects.kv else None,
        "speculative-algorithm": SGLANG_DRAFTERS[limits.speculation.method] if drafts else None,
        "speculative-draft-model-path": DRAFTER if drafts and limits.speculation.method == "eagle" else None,
        "speculative-num-steps": drafts if drafts and not ngram else None,
        "speculative-eagle-topk": limits.speculation.speculative_eagle_topk if drafts and not ngram else None,
        "speculative-num-draft-tokens": limits.speculation.verified_tokens if drafts else None,
    }
    start = ["python", "-m", "sglang.launch_server", "--model-path", MODEL]
    return [shlex.join([*start, *_flags({**options, "disaggregation-mode": role})]) for role in _roles(deployment)]


def _sayable(deployment: Deployment) -> bool:
    """Whether engines have words for what is changed: formats, and prompts and decodes apart, but nothing else."""
    changed: Mapping[str, Any] = deployment.effects.describe()
    formats = changed.keys() <= {"weights", "kv"} and (deployment.effects.kv is None or deployment.effects.kv in KV)
    return bool(formats and deployment.native.arrangement.kind in ("replicas", "distserve"))


def _roles(deployment: Deployment) -> list[str | None]:
    return ["prefill", "decode"] if deployment.native.arrangement.kind == "distserve" else [None]


def _several(number: int) -> int | None:
    """One is the engine's own default."""
    return number if number > 1 else None


def _flags(options: Mapping[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in options.items():
        if value is None:
            continue
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            words += [f"--{name}", str(value)]
    return words

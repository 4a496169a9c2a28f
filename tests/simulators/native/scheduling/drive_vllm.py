# mypy: disable-error-code="import-not-found"
"""Drives vLLM's own V1 Scheduler without a model: our clock, our step times, made-up tokens. Run by the engine's interpreter.

    .envs/vllm_cpu/bin/python drive_vllm.py < cases.json > steps.json

It needs nothing of Plumbline. In: a list of cases, each {limits, step_seconds, requests, max_steps}; out: a list of steps per case.
A request's `accepted` says how many drafts each of its verifications accepts. The loop is the engine core's (take what has arrived,
schedule, run, hand the tokens back; with asynchronous scheduling the next step is scheduled while one runs), so that the order of its
calls is the server's.
"""

import json
import os
import sys
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"

import torch
from vllm.config import CacheConfig, ModelConfig, SchedulerConfig, SpeculativeConfig, VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import (
    ChunkedLocalAttentionSpec,
    FullAttentionSpec,
    KVCacheConfig,
    KVCacheGroupSpec,
    KVCacheSpec,
    MambaSpec,
    SlidingWindowSpec,
)
from vllm.v1.outputs import DraftTokenIds, ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

MODEL = json.loads((Path(__file__).parents[1] / "one_layer.json").read_text())  # a config.json
HASH = get_hash_fn_by_name("sha256")


def make_scheduler(folder: str, limits: dict[str, Any]) -> Scheduler:
    """vLLM's scheduler as its engine core builds it."""
    os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"
    model = ModelConfig(model=folder, skip_tokenizer_init=True, dtype="float32", max_model_len=limits["max_model_len"])
    scheduling = SchedulerConfig(
        max_num_batched_tokens=limits["max_num_batched_tokens"],
        max_num_seqs=limits["max_num_seqs"],
        max_model_len=limits["max_model_len"],
        is_encoder_decoder=False,
        enable_chunked_prefill=limits["chunked_prefill"],
        long_prefill_token_threshold=limits["long_prefill_token_threshold"],
        policy=limits["policy"],
        watermark=limits["watermark"],
        scheduler_reserve_full_isl=limits["reserve_full_prompt"],
    )
    block_size = limits["block_size"]
    cache = CacheConfig(block_size=block_size, enable_prefix_caching=limits["prefix_caching"])
    config = VllmConfig(model_config=model, scheduler_config=scheduling, cache_config=cache)
    config.speculative_config = speculation(config, limits)
    # the CPU platform switches these off or resets them; the scheduler itself knows no platform
    scheduling.async_scheduling = limits["in_flight"] > limits["pipeline_parallel_size"]
    scheduling.enable_chunked_prefill = limits["chunked_prefill"]
    scheduling.max_num_batched_tokens = limits["max_num_batched_tokens"]
    cache.block_size = block_size
    cache.enable_prefix_caching = limits["prefix_caching"]
    cache.num_gpu_blocks = limits["num_blocks"]
    groups = [KVCacheGroupSpec([f"layer {i}"], kv_spec(group, limits)) for i, group in enumerate(limits["kv_groups"] or [{}])]
    kv_cache = KVCacheConfig(num_blocks=cache.num_gpu_blocks, kv_cache_tensors=[], kv_cache_groups=groups)
    config.parallel_config.pipeline_parallel_size = limits["pipeline_parallel_size"]
    # its model runner of pipelines on GPUs, which has no CPU version: what the scheduler does for it depends on no more
    os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "1" if limits["pipeline_parallel_size"] > 1 else "0"
    kind = AsyncScheduler if scheduling.async_scheduling else Scheduler
    common = max(group.kv_cache_spec.block_size for group in groups)  # a multiple of all of them
    return kind(config, kv_cache, StructuredOutputManager(config), block_size=common, hash_block_size=block_size, log_stats=False)


def kv_spec(group: dict[str, Any], limits: dict[str, Any]) -> KVCacheSpec:
    """What the layers of a group keep of a context."""
    if group.get("state"):
        longest = -(-limits["max_model_len"] // limits["block_size"]) * limits["block_size"]  # so that one block holds any context
        return MambaSpec(block_size=longest, shapes=((1,),), dtypes=(torch.float32,))
    sizes = {"block_size": limits["block_size"], "num_kv_heads": 1, "head_size": 1, "dtype": torch.float32}
    if group.get("chunked"):
        return ChunkedLocalAttentionSpec(**sizes, attention_chunk_size=group["window"])
    return SlidingWindowSpec(**sizes, sliding_window=group["window"]) if group.get("window") else FullAttentionSpec(**sizes)


def speculation(config: VllmConfig, limits: dict[str, Any]) -> SpeculativeConfig | None:
    """The configuration of a drafter; None: there is none. The scheduler asks it for its method and its number of tokens alone."""
    if not limits["num_speculative_tokens"]:
        return None
    made = SpeculativeConfig(
        method="ngram",
        num_speculative_tokens=limits["num_speculative_tokens"],
        prompt_lookup_max=2,
        target_model_config=config.model_config,
        target_parallel_config=config.parallel_config,
    )
    made.method = limits["method"]  # only now: made as `eagle`, it would look for the weights of a drafter
    return made


def make_request(index: int, row: dict[str, Any], limits: dict[str, Any]) -> Request:
    """Request `index`: its prompt as token ids, as many output tokens as asked, whatever they are."""
    return Request(
        request_id=f"{index:09d}",
        prompt_token_ids=row["prompt"],
        sampling_params=SamplingParams(max_tokens=row["output_tokens"], ignore_eos=True),
        pooling_params=None,
        arrival_time=row["arrival"],
        priority=row["priority"],
        block_hasher=get_request_block_hasher(limits["block_size"], HASH) if limits["prefix_caching"] else None,
    )


class Model:
    """What a model would hand back: one token for every request whose known tokens are all computed after this step, and the drafts that
    it accepts. `accepted`: of each request, of its verifications.
    """

    def __init__(self, accepted: list[list[int]]) -> None:
        self.accepted = [deque(lengths) for lengths in accepted]

    def sampled(self, scheduler: Scheduler, output: Any, chunks: set[str]) -> ModelRunnerOutput:
        """When the step ends. chunks: requests whose known tokens are not all computed."""
        ids = list(output.num_scheduled_tokens)
        padded = {r.req_id for r in output.scheduled_new_reqs} | output.scheduled_cached_reqs.resumed_req_ids
        tokens = []
        for i in ids:
            drafts = 0 if i in padded else len(output.scheduled_spec_decode_tokens.get(i, ()))
            request = scheduler.requests.get(i)
            accepted = min(self.accepted[int(i)].popleft(), drafts) if drafts and request and not request.is_finished() else 0
            # an output token is the request's own: no two requests generate the same text
            tokens.append([] if i in chunks else [1_000_000 + int(i)] * (1 + accepted))
        return ModelRunnerOutput(req_ids=ids, req_id_to_index={i: n for n, i in enumerate(ids)}, sampled_token_ids=tokens)


def admitted(output: Any) -> list[list[int]]:
    """[request, tokens already computed] of those that left the waiting queue in this step."""
    new = [[int(r.req_id), r.num_computed_tokens] for r in output.scheduled_new_reqs]
    cached = output.scheduled_cached_reqs
    again = [[int(i), n] for i, n in zip(cached.req_ids, cached.num_computed_tokens, strict=True) if i in cached.resumed_req_ids]
    return sorted(new + again)


def passed(free: list[float], now: float, seconds: float) -> float:
    """When a batch that takes so long in all stages has passed the last of them, if the first can begin at `now`."""
    for stage, busy_until in enumerate(free):
        now = free[stage] = max(now, busy_until) + seconds / len(free)
    return now


def drive(folder: str, case: dict[str, Any]) -> list[dict[str, Any]]:
    """Replay one case; the steps in which something was scheduled or preempted."""
    limits, seconds = case["limits"], case["step_seconds"]
    scheduler = make_scheduler(folder, limits)
    arriving = deque(enumerate(case["requests"]))
    model, drafts = Model([row["accepted"] for row in case["requests"]]), limits["num_speculative_tokens"]
    running: deque[tuple[float, Any, set[str]]] = deque()
    now = 0.0
    known: dict[str, float] = {}  # s; when the last stage has made each request's newest token, which the first stage needs
    free = [0.0] * limits["pipeline_parallel_size"]  # s; when each stage has computed all that has entered it
    steps: list[dict[str, Any]] = []
    while (arriving or running or scheduler.has_requests()) and len(steps) < case["max_steps"]:
        while arriving and arriving[0][1]["arrival"] <= now:
            scheduler.add_request(make_request(*arriving.popleft(), limits))
        if scheduler.has_requests():
            output = scheduler.schedule()
            tokens = output.total_num_scheduled_tokens
            end = max(now, free[-1])
            chunks = {i for i in output.num_scheduled_tokens if scheduler.requests[i].is_prefill_chunk}
            if tokens:
                ready = max([now, *(known.get(i, 0.0) for i in output.num_scheduled_tokens)]) if len(free) > 1 else now
                end = passed(free, ready, seconds["fixed"] + seconds["per_token"] * tokens)
                known.update(dict.fromkeys(set(output.num_scheduled_tokens) - chunks, end))
            running.append((end, output, chunks))
            if tokens or output.preempted_req_ids:
                steps.append(
                    {
                        "scheduled": now,
                        "end": free[-1],
                        "tokens": [[int(i), n] for i, n in output.num_scheduled_tokens.items()],
                        "admitted": admitted(output),
                        "preempted": sorted(int(i) for i in output.preempted_req_ids),
                    }
                )
            if len(running) < limits["in_flight"] and (tokens or scheduler.has_requests()):
                continue
        if running:
            end, output, chunks = running.popleft()
            now = max(now, end)
            result = model.sampled(scheduler, output, chunks)
            scheduler.update_from_output(output, result)
            if drafts and limits["in_flight"] == 1:
                scheduler.update_draft_token_ids(DraftTokenIds(result.req_ids, [[7] * drafts for _ in result.req_ids]))
        elif arriving:
            now = arriving[0][1]["arrival"]
    return steps


def main() -> None:
    """Cases on standard input, steps on standard output."""
    cases = json.load(sys.stdin)
    init_none_hash(HASH)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(MODEL))
        answers = [drive(folder, case) for case in cases]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()

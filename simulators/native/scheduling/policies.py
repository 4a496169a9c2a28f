"""Scheduling policies by name, and the limits that each of them keeps."""

import dataclasses
from collections.abc import Callable, Mapping

from simulators.native.scheduling.orca import Orca, RequestLevel
from simulators.native.scheduling.sarathi import Sarathi
from simulators.native.scheduling.scheduler import Limits, Scheduler
from simulators.native.scheduling.sglang import SglangScheduler
from simulators.native.scheduling.vllm_v0 import VllmV0
from simulators.native.scheduling.vllm_v1 import VllmV1

POLICIES: Mapping[str, Callable[[Limits], Scheduler]] = {
    "vllm_v1": VllmV1,
    "sglang": SglangScheduler,
    "vllm_v0": VllmV0,
    "vllm_v0_swap": lambda limits: VllmV0(limits, preemption="swap"),
    "sarathi": Sarathi,
    "orca": Orca,
    "orca_power_of_two": lambda limits: Orca(limits, reserve="power_of_two"),
    "orca_max": lambda limits: Orca(limits, reserve="max"),
    "request_level": RequestLevel,
}


def adapted(policy: str, limits: Limits) -> Limits:
    """The limits as the policy's engine would have them.

    A policy that decides one step at a time has one step in flight and shares no prefixes. A policy that computes whole prompts has a token
    budget for the longest one (vLLM's rule before chunked prefill).
    """
    if policy == "vllm_v1":
        return limits
    if policy == "sglang":
        page = limits.block_size
        budget = limits.max_num_batched_tokens if limits.chunked_prefill else max(limits.max_num_batched_tokens, limits.max_model_len)
        depth = min(limits.in_flight, 2)  # overlap scheduling decides one step ahead
        spare = 2 * page + 1 + limits.speculation.reserved_tokens(page)
        return dataclasses.replace(limits, policy="fcfs", max_num_batched_tokens=budget, spare_tokens=spare, in_flight=depth)
    limits = dataclasses.replace(limits, in_flight=1, prefix_caching=False, policy="fcfs")
    if policy.startswith("vllm_v0"):
        budget = max(limits.max_num_batched_tokens, limits.max_model_len)
        limits = dataclasses.replace(limits, chunked_prefill=False, max_num_batched_tokens=budget)
    return limits

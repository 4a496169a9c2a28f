"""What the compiled engine does not have, so that the readable one serves it. Imported without compiling anything."""

import dataclasses

from simulators.native.latency.step_time import StepTime
from simulators.native.scheduling.scheduler import Limits

KNOWN = {  # fields of Limits; any other must have its default, or not matter to vllm_v1
    "kv_blocks",
    "block_size",
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_model_len",
    "chunked_prefill",
    "prefix_caching",
    "long_prefill_token_threshold",
    "watermark",
    "policy",
    "reserve_full_prompt",
    "in_flight",
}
ELSEWHERE = {"spare_tokens", "sglang", "speculation", "kv_groups"}  # they matter in Limits.refusal, to other policies, and in allocate.py
LARGEST = 2**31 - 1  # the most that 32 bits can count


def compiled_obstacle(limits: Limits, step_time: StepTime, policy: str) -> str | None:
    """What is asked for that the compiled engine does not have, or None."""
    if policy != "vllm_v1":
        return f"the policy {policy}"
    if step_time.law is None:
        return "step times that a batch's sums do not tell"
    for field in dataclasses.fields(Limits):
        value = getattr(limits, field.name)
        if field.name in KNOWN:
            if isinstance(value, int) and value > LARGEST:
                return f"{field.name} above {LARGEST}"
        elif field.name not in ELSEWHERE and value != field.default:
            return f"{field.name}={value}"
    return None

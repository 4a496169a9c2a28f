"""Random cases for the differential test: traces and limits, small ones, in which much happens: sharing, pressure, preemption."""

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators.native.engine import run
from simulators.native.kv.groups import KVGroup
from simulators.native.kv.prefix_keys import make_sequences
from simulators.native.latency.step_law import StepLaw, row
from simulators.native.scheduling.scheduler import Limits
from simulators.native.scheduling.speculation import Speculation
from simulators.native.scheduling.vllm_v1 import VllmV1
from simulators.native.sequence import Batch
from simulators.native.stages import Stages
from workloads.prompts import token_ids
from workloads.trace import Request, Trace

MAX_STEPS = 3000  # of one case; some limits let requests preempt each other for ever, in vLLM and here alike


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Step times that both sides compute alike: fixed + per_token * tokens seconds."""

    fixed: float
    per_token: float = 0.0

    @property
    def law(self) -> StepLaw:
        return StepLaw(linear=row(self.fixed, new_tokens=self.per_token))

    def seconds(self, batch: Batch) -> float:
        return self.fixed + self.per_token * batch.new_tokens

    def note(self, works: NDArray[np.float64]) -> None:
        pass

    def describe(self) -> Mapping[str, Any]:
        return {}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One replay. priorities: one per request."""

    trace: Trace
    limits: Limits
    priorities: tuple[int, ...]
    step_time: Linear


def random_case(seed: int) -> Case:
    """The same case for the same seed. Every feature is on in some and off in others."""
    rng = np.random.default_rng([seed, 606])
    block_size = int(rng.choice([4, 8, 16]))
    chunked = bool(rng.random() < 0.75)
    longest_prompt, longest_output = int(rng.integers(8, 200)), int(rng.integers(2, 60))
    max_model_len = longest_prompt + longest_output + int(rng.integers(0, 20))
    budget = int(rng.integers(16, 128)) if chunked else max_model_len + int(rng.integers(0, 200))
    least_blocks = -(-max_model_len // block_size)
    limits = Limits(
        kv_blocks=int(least_blocks * rng.choice([1.0, 1.2, 1.7, 3.0, 10.0])),
        block_size=block_size,
        max_num_seqs=int(min(rng.choice([1, 2, 4, 8, 16]), budget)),
        max_num_batched_tokens=budget,
        max_model_len=max_model_len,
        chunked_prefill=chunked,
        prefix_caching=bool(rng.random() < 0.7),
        long_prefill_token_threshold=min(int(rng.integers(4, 64)), max_model_len) if rng.random() < 0.3 else 0,
        policy="priority" if rng.random() < 0.3 else "fcfs",
        watermark=float(rng.choice([0.0, 0.0, 0.05, 0.2])),
        reserve_full_prompt=bool(rng.random() < 0.7),
        in_flight=int(rng.choice([1, 1, 2, 3])),
    )
    trace = _trace(rng, longest_prompt, longest_output)
    priorities = tuple(int(p) for p in rng.integers(0, 3, len(trace)))
    step_time = Linear(fixed=2.0**-5, per_token=float(rng.choice([0.0, 2.0**-10, 2.0**-7])))
    return Case(trace=trace, limits=limits, priorities=priorities, step_time=step_time)


def speculative_case(seed: int) -> Case:
    """The random case of this seed, with speculation: a few drafts or many, by each drafter, accepted never, sometimes and always."""
    case = random_case(seed)
    rng = np.random.default_rng([seed, 607])
    tokens = int(rng.integers(1, 6))
    rates = np.sort(rng.choice([0.0, 1.0, *rng.random(3)], tokens))[::-1].tolist()
    stated: dict[str, Any] = {"synthetic_acceptance_rates": tuple(rates)}
    if rng.random() < 0.3:
        stated = {"accepted_lengths": tuple(rng.integers(0, tokens + 1, 7).tolist())}
    speculation = Speculation(num_speculative_tokens=tokens, method="ngram" if rng.random() < 0.4 else "eagle", seed=seed, **stated)
    threshold = case.limits.long_prefill_token_threshold  # vLLM's scheduler fails where a decode with its drafts is above it
    limits = dataclasses.replace(
        case.limits,
        speculation=speculation,
        long_prefill_token_threshold=max(threshold, tokens + 1) if threshold else 0,
    )
    return dataclasses.replace(case, limits=limits)


def pipelined_case(seed: int) -> Case:
    """The random case of this seed, on two to four stages, with as many steps in flight, or one more: asynchronous scheduling."""
    case = random_case(seed)
    rng = np.random.default_rng([seed, 608])
    stages = int(rng.integers(2, 5))
    limits = dataclasses.replace(case.limits, pipeline_parallel_size=stages, in_flight=stages + int(rng.integers(0, 2)))
    return dataclasses.replace(case, limits=limits)


def grouped_case(seed: int) -> Case:
    """The random case of this seed, on a model with several kinds of layers: attention to all, to windows, states (without shared
    prefixes). Few blocks in some.
    """
    case = random_case(seed)
    rng = np.random.default_rng([seed, 609])
    limits = dataclasses.replace(case.limits, in_flight=min(case.limits.in_flight, 2))
    windows = rng.integers(1, 80, 2).tolist()
    groups = [KVGroup()] * int(rng.integers(0, 3)) + [KVGroup(window=windows[0])] * int(rng.integers(1, 4))
    groups += [KVGroup(window=windows[1])] * int(rng.random() < 0.3)
    groups += [KVGroup(state=True)] * (0 if limits.prefix_caching else int(rng.integers(0, 3)))
    alone = sum(group.most(limits.max_model_len, limits.block_size, limits.most_under_way) for group in groups)
    limits = dataclasses.replace(limits, kv_groups=tuple(groups), kv_blocks=int(alone * rng.choice([1.0, 1.2, 1.7, 3.0])))
    return dataclasses.replace(case, limits=limits)


def chunked_case(seed: int) -> Case:
    """The random case of this seed, on a model with attention in chunks, as long as some blocks, before the layers that attend to all."""
    case = random_case(seed)
    rng = np.random.default_rng([seed, 610])
    limits = dataclasses.replace(case.limits, in_flight=min(case.limits.in_flight, 2))
    chunk = KVGroup(window=limits.block_size * int(rng.integers(1, 10)), chunked=True)
    groups = (*[chunk] * int(rng.integers(1, 4)), *[KVGroup()] * int(rng.integers(1, 3)))
    alone = sum(group.most(limits.max_model_len, limits.block_size, limits.most_under_way) for group in groups)
    limits = dataclasses.replace(limits, kv_groups=groups, kv_blocks=int(alone * rng.choice([1.0, 1.2, 1.7, 3.0])))
    return dataclasses.replace(case, limits=limits)


def _trace(rng: np.random.Generator, longest_prompt: int, longest_output: int) -> Trace:
    """Prompts that fork from a few common beginnings; arrivals in a burst, or spread over the run."""
    count = int(rng.integers(3, 40))
    block = int(rng.choice([3, 8, 16, 40]))
    gap = float(rng.choice([0.0, 0.05, 0.3, 1.0]))
    arrivals = np.cumsum(rng.exponential(gap, count)) if gap else np.zeros(count)
    alphabet = int(rng.integers(1, 4))
    requests = []
    for i in range(count):
        prompt = int(rng.integers(1, longest_prompt + 1))
        depth = int(rng.integers(0, -(-prompt // block) + 1)) if rng.random() < 0.8 else 0
        blocks = tuple(int(b) for b in rng.integers(0, alphabet, depth))
        output = int(rng.integers(1, longest_output + 1))
        requests.append(Request(request_id=i, arrival=float(arrivals[i]), input_tokens=prompt, output_tokens=output, blocks=blocks))
    return Trace(name="random", requests=tuple(requests), block_size=block)


def for_vllm(case: Case) -> dict[str, Any]:
    """The case as drive_vllm.py reads it, prompts as the bench would send them."""
    limits = case.limits
    prompts = token_ids(case.trace, vocab_size=32000, seed=0)
    return {
        "limits": {
            "num_blocks": limits.kv_blocks + 1,  # vLLM keeps one for itself, the null block
            "block_size": limits.block_size,
            "max_num_seqs": limits.max_num_seqs,
            "max_num_batched_tokens": limits.max_num_batched_tokens,
            "max_model_len": limits.max_model_len,
            "chunked_prefill": limits.chunked_prefill,
            "prefix_caching": limits.prefix_caching,
            "long_prefill_token_threshold": limits.long_prefill_token_threshold,
            "policy": limits.policy,
            "watermark": limits.watermark,
            "reserve_full_prompt": limits.reserve_full_prompt,
            "in_flight": limits.in_flight,
            "pipeline_parallel_size": limits.pipeline_parallel_size,
            "kv_groups": [dataclasses.asdict(group) for group in limits.kv_groups],
            "num_speculative_tokens": limits.speculation.num_speculative_tokens,
            "method": limits.speculation.method,
        },
        "max_steps": MAX_STEPS,
        "step_seconds": {"fixed": case.step_time.fixed, "per_token": case.step_time.per_token},
        "requests": [
            {
                "prompt": prompt,
                "output_tokens": r.output_tokens,
                "arrival": r.arrival,
                "priority": priority,
                "accepted": [int(limits.speculation.accepted(i, n)) for n in range(r.output_tokens)],
            }
            for i, (r, prompt, priority) in enumerate(zip(case.trace, prompts, case.priorities, strict=True))
        ],
    }


def our_steps(case: Case) -> list[dict[str, Any]]:
    """The case on our own engine; steps in the form in which drive_vllm.py gives them."""
    sequences = list(make_sequences(case.trace, block_size=case.limits.block_size))
    for sequence, priority in zip(sequences, case.priorities, strict=True):
        sequence.priority = priority
    stages = Stages(count=case.limits.pipeline_parallel_size)
    steps = run(sequences, VllmV1(case.limits), case.step_time, in_flight=case.limits.in_flight, stages=stages)
    return [
        {
            "scheduled": step.scheduled,
            "end": step.end,
            "tokens": [[s.index, n] for s, n in zip(step.batch.sequences, step.batch.tokens, strict=True)],
            "admitted": sorted([s.index, n] for s, n in step.batch.admitted),
            "preempted": sorted(s.index for s in step.batch.preempted),
        }
        for step in itertools.islice(steps, MAX_STEPS)
    ]

"""What a scheduling policy is, and the limits that it keeps."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from simulators.native.kv.groups import KVGroup
from simulators.native.scheduling.sglang_options import SglangOptions
from simulators.native.scheduling.speculation import Speculation
from simulators.native.sequence import Batch, Sequence

LEAST_ONE = ("kv_blocks", "block_size", "max_num_seqs", "max_num_batched_tokens", "max_model_len")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """An engine's limits, resolved: none is unknown."""

    kv_blocks: int  # blocks that requests can hold
    block_size: int  # tokens of a block
    max_num_seqs: int  # sequences in one step
    max_num_batched_tokens: int  # tokens in one step
    max_model_len: int  # tokens of one request, prompt and output
    chunked_prefill: bool = True  # whether a prompt may be computed over several steps
    prefix_caching: bool = True  # whether the KV of shared prefixes is computed once
    long_prefill_token_threshold: int = 0  # tokens; while others wait or run, a step takes no more of a longer prefill; 0: no such limit
    policy: Literal["fcfs", "priority"] = "fcfs"  # order of the waiting queue
    watermark: float = 0.0  # share of the blocks to be left free when a request is admitted beside others
    reserve_full_prompt: bool = True  # admit a request only when all its prompt would fit
    in_flight: int = 1  # steps scheduled before the first of them must have ended; one more than stages: asynchronous scheduling
    pipeline_parallel_size: int = 1  # stages, each with a share of the layers, that compute one step after the other
    kept_tokens: int | None = None  # of a context that stay in the KV cache, beside the block that is being written; None: all
    kv_groups: tuple[KVGroup, ...] = ()  # of layers, that share the blocks; (): one, with attention to all of a context
    spare_tokens: int = 0  # of KV memory that must be left beside all tokens of a request that is alone
    speculation: Speculation = field(default_factory=Speculation)  # draft tokens that decodes verify
    sglang: SglangOptions = field(default_factory=SglangOptions)  # what SGLang's scheduler can be told beyond these

    def __post_init__(self) -> None:
        if self.kept_tokens is not None and (self.kept_tokens < 1 or self.prefix_caching):
            raise ValueError(f"kept_tokens must be >= 1, and rules prefix caching out; got {self.kept_tokens}")
        for name in (
            "kv_blocks",
            "block_size",
            "max_num_seqs",
            "max_num_batched_tokens",
            "max_model_len",
            "in_flight",
            "pipeline_parallel_size",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.kv_groups and (self.kept_tokens is not None or (self.prefix_caching and self.speculation.drops_last_hit)):
            raise ValueError("kv_groups rule kept_tokens out, and prefix caching beside a drafter with a KV cache")
        if self.in_flight < self.pipeline_parallel_size or (self.pipeline_parallel_size > 1 and self.speculation.num_speculative_tokens):
            raise ValueError(
                f"pipeline_parallel_size {self.pipeline_parallel_size} needs as many steps in flight (in_flight {self.in_flight}), "
                "and rules speculation out"
            )
        if self.policy not in ("fcfs", "priority"):
            raise ValueError(f"policy must be fcfs or priority, got {self.policy!r}")
        if not 0 <= self.watermark < 1:
            raise ValueError(f"watermark must be in [0, 1), got {self.watermark}")
        if self.long_prefill_token_threshold < 0:
            raise ValueError(f"long_prefill_token_threshold must be >= 0, got {self.long_prefill_token_threshold}")

    @property
    def asynchronous(self) -> bool:
        """Whether a sequence's next token is scheduled while the step that makes the one before is under way."""
        return self.in_flight > self.pipeline_parallel_size

    @property
    def most_under_way(self) -> int:
        """Tokens that the steps under way compute at most."""
        return self.in_flight * self.max_num_batched_tokens

    @property
    def beyond(self) -> int:
        """Tokens of KV memory that a request may hold beyond its own: drafts that are verified, in each step under way, and look-ahead."""
        return self.in_flight * self.speculation.num_speculative_tokens + self.speculation.num_lookahead_tokens

    @property
    def context_tokens(self) -> float:
        """Tokens of context that the KV memory holds at most, in sum; infinite where every group of layers forgets."""
        if self.kept_tokens is not None:
            return math.inf
        whole = sum(group == KVGroup() for group in self.kv_groups) if self.kv_groups else 1
        return self.kv_blocks * self.block_size / whole if whole else math.inf

    def blocks_for(self, tokens: int) -> int:
        """Blocks that a sequence of so many tokens holds at most."""
        return sum(group.most(tokens, self.block_size, self.most_under_way) for group in self.kv_groups or (KVGroup(),))

    def refusal(self, end: int) -> str | None:
        """Why a request of so many tokens, prompt and output, could never be served, or None. A server turns it away at once."""
        if end > self.max_model_len:
            return f"{end} tokens are more than max_model_len {self.max_model_len}"
        room = self.kv_blocks * self.block_size
        needed = min(end - 1 + self.beyond, self.max_model_len)
        if self.kept_tokens is not None:
            needed = min(needed, self.kept_tokens + self.block_size)
        if self.kv_groups:
            needed = self.block_size * self.blocks_for(needed)
        if needed + self.spare_tokens > room:  # the last token is never read again, so its KV is never made
            return f"{end - 1} tokens do not fit the KV cache of {room} tokens"
        if not self.chunked_prefill and end - 1 > self.max_num_batched_tokens:
            return f"{end - 1} tokens are more than max_num_batched_tokens {self.max_num_batched_tokens}, and chunked prefill is off"
        return None


class Cache(Protocol):
    """The KV memory of a scheduler, as the loop looks at it."""

    @property
    def blocks(self) -> int:
        """Blocks that it has."""
        ...

    @property
    def used_blocks(self) -> int:
        """Blocks that sequences hold."""
        ...

    def cached_tokens(self, sequence: Sequence) -> int:
        """Tokens of the sequence's beginning that the prefix cache holds."""
        ...


class PagedCache(Cache, Protocol):
    """KV memory in blocks, as VllmV1 uses it: see KVCache."""

    def find_prefix(self, sequence: Sequence) -> Any:
        """What holds the sequence's beginning; its length is a number of blocks."""
        ...

    def admit(self, sequence: Sequence, prefix: Any, tokens: int, *, spare: int, whole: bool, ahead: int = 0) -> bool:
        """Give a waiting sequence what was found of its prefix, and room for `tokens` more."""
        ...

    def extend(self, sequence: Sequence, tokens: int, *, ahead: int = 0) -> bool:
        """Make room for `tokens` more of a running sequence."""
        ...

    def remember(self, sequence: Sequence, tokens: int) -> None:
        """Enter the full blocks of its first `tokens` tokens in the prefix cache."""
        ...

    def release(self, sequence: Sequence) -> None:
        """Take all blocks from it."""
        ...


class Scheduler(Protocol):
    """Decides what the next step computes. It knows no time."""

    @property
    def cache(self) -> Cache:
        """Its KV memory."""
        ...

    def add(self, sequence: Sequence) -> None:
        """A sequence has arrived."""
        ...

    def has_work(self) -> bool:
        """Whether any sequence is unfinished."""
        ...

    def schedule(self) -> Batch:
        """The next step; an empty batch when nothing can be computed now. Steps may be scheduled before earlier ones have ended."""
        ...

    def finish(self, batch: Batch, now: float) -> None:
        """The step has ended at `now`: its samplers have one more token each. Called for every batch, in the order of scheduling."""
        ...

    def withdraw(self, sequence: Sequence) -> bool:
        """Take a running sequence out, its blocks too, to go on elsewhere; False, and nothing done, when it has a token under way."""
        ...

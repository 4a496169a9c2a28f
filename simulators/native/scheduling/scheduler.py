"""What a scheduling policy is, and the limits that it keeps."""

from dataclasses import dataclass, field
from typing import Literal, Protocol

from simulators.native.scheduling.sglang_options import SglangOptions
from simulators.native.sequence import Batch, Sequence


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
    in_flight: int = 1  # steps scheduled before the first of them must have ended; 2: asynchronous scheduling, more: a pipeline
    kept_tokens: int | None = None  # of a context that stay in the KV cache, beside the block that is being written; None: all
    spare_tokens: int = 0  # of KV memory that must be left beside all tokens of a request that is alone
    sglang: SglangOptions = field(default_factory=SglangOptions)  # what SGLang's scheduler can be told beyond these

    def __post_init__(self) -> None:
        if self.kept_tokens is not None and (self.kept_tokens < 1 or self.prefix_caching):
            raise ValueError(f"kept_tokens must be >= 1, and rules prefix caching out; got {self.kept_tokens}")
        for name in ("kv_blocks", "block_size", "max_num_seqs", "max_num_batched_tokens", "max_model_len", "in_flight"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.policy not in ("fcfs", "priority"):
            raise ValueError(f"policy must be fcfs or priority, got {self.policy!r}")
        if not 0 <= self.watermark < 1:
            raise ValueError(f"watermark must be in [0, 1), got {self.watermark}")
        if self.long_prefill_token_threshold < 0:
            raise ValueError(f"long_prefill_token_threshold must be >= 0, got {self.long_prefill_token_threshold}")

    def refusal(self, end: int) -> str | None:
        """Why a request of so many tokens, prompt and output, could never be served, or None. A server turns it away at once."""
        if end > self.max_model_len:
            return f"{end} tokens are more than max_model_len {self.max_model_len}"
        room = self.kv_blocks * self.block_size
        needed = end - 1 if self.kept_tokens is None else min(end - 1, self.kept_tokens + self.block_size)
        if needed + self.spare_tokens > room:  # the last token is never read again, so its KV is never made
            return f"{end - 1} tokens do not fit the KV cache of {room} tokens"
        if not self.chunked_prefill and end - 1 > self.max_num_batched_tokens:
            return f"{end - 1} tokens are more than max_num_batched_tokens {self.max_num_batched_tokens}, and chunked prefill is off"
        return None


class Cache(Protocol):
    """The KV memory of a scheduler, as the loop looks at it."""

    @property
    def used_blocks(self) -> int:
        """Blocks that sequences hold."""
        ...

    def cached_tokens(self, sequence: Sequence) -> int:
        """Tokens of the sequence's beginning that the prefix cache holds."""
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

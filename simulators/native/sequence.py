"""The nouns of an engine: Sequence, one request inside it and how far it has come; Batch, what one step computes."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Any

NO_WINDOWS = (0, 0, 0, 0)  # parts of step_law.WORK that only attention with windows has (latency/windows.py)


@dataclass(slots=True, eq=False)
class Sequence:
    """One request inside the engine. Counts are tokens; times are seconds since the trace's start."""

    index: int  # its place in the trace
    arrival: float  # when it reaches the scheduler; with a station before the engine, when it is ready there
    prompt: int  # tokens asked for
    output: int  # tokens asked for
    priority: int = 0  # lower goes first
    shared_keys: Many[int] = ()  # prefix-cache key of each full block that other prompts may share, from the first
    own_key: int | None = None  # own_key + i is the key of block i after those; None: nothing is cached under a key

    total: int = 0  # known so far, prompt and generated
    computed: int = 0  # of these and the promised ones, those whose KV is in the cache or in a step under way
    promised: int = 0  # that steps under way will generate
    end: int = 0  # total when it is complete
    blocks: list[int] = field(default_factory=list)  # its KV blocks
    room: int = 0  # that its blocks hold
    named: int = 0  # how many of its blocks have been entered in the prefix cache
    next_name: int = 0  # computed at which the next block may be entered
    running: bool = False  # whether it has been admitted, and is neither preempted nor complete
    last: Batch | None = None  # the step that it was last part of
    preemptions: int = 0  # how often it was preempted
    received: int = 0  # known ones whose KV comes from another engine, so that its first step here needs not compute them
    held: bool = False  # its blocks stay when it is complete, until somebody has fetched them

    scheduled: float | None = None  # when the first step that it was part of began
    cached: int | None = None  # found in the prefix cache when it was first admitted
    token_times: list[float] = field(default_factory=list)  # when each generated token was handed back, or was with the client

    server: int = 0  # the API server that it passes
    reached: float = 0.0  # when it reaches the scheduler
    streamed: int = 0  # tokens that the API server has sent
    first_held: float = 0.0  # from the end of the step that made its first token to the client
    last_held: float = 0.0  # the same of its newest token

    def __post_init__(self) -> None:
        self.total = self.prompt
        self.end = self.prompt + self.output

    def key(self, block: int) -> int:
        """Prefix-cache key of its block number `block`: equal for two sequences exactly when all tokens up to that block's end are."""
        if block < len(self.shared_keys):
            return self.shared_keys[block]
        assert self.own_key is not None
        return self.own_key + block


@dataclass(slots=True)
class Batch:
    """One step: which sequences compute how many new tokens, and in sum what the device has to do."""

    sequences: list[Sequence] = field(default_factory=list)  # who is scheduled, in the scheduler's order
    tokens: list[int] = field(default_factory=list)  # new ones of each of these
    samplers: list[Sequence] = field(default_factory=list)  # those that generate a token when the step ends
    # those that left the waiting queue, with the tokens found in the prefix cache
    admitted: list[tuple[Sequence, int]] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)  # those that had to give way, in their order
    prefill_tokens: int = 0  # new tokens of chunks (anything but one token on top of a context)
    prefill_context: int = 0  # tokens that were cached already under those chunks
    prefill_pairs: float = 0.0  # query-key pairs of their causal attention
    decodes: int = 0  # sequences that compute one token on top of a context
    decode_context: int = 0  # sum of those contexts, the new token left out
    swapped: int = 0  # tokens whose KV goes to or comes from host memory
    done: bool = False  # whether it has ended

    @property
    def new_tokens(self) -> int:
        """All tokens computed in this step."""
        return self.prefill_tokens + self.decodes

    @property
    def mixed_context(self) -> int:
        """decode_context of a step that computes chunks, too; 0 of one that only decodes."""
        return self.decode_context if self.prefill_tokens else 0

    @property
    def mixed_decodes(self) -> int:
        """decodes of a step that computes chunks, too; 0 of one that only decodes."""
        return self.decodes if self.prefill_tokens else 0

    @property
    def work(self) -> tuple[float, ...]:
        """What the device has to do in sum, in the order of step_law.WORK."""
        return (
            self.new_tokens,
            len(self.sequences),
            self.decodes,
            self.decode_context,
            self.prefill_tokens,
            self.prefill_context,
            self.prefill_pairs,
            self.mixed_context,
            self.mixed_decodes,
            1 if self.prefill_tokens else 0,
            *NO_WINDOWS,
        )

    def count(self, tokens: int, context: int) -> None:
        """Add the work of a sequence that computes `tokens` new tokens on top of `context`."""
        if tokens == 1 and context:
            self.count_decode(context)
        else:
            self.count_prefill(tokens, context)

    def count_decode(self, context: int) -> None:
        """Add the work of a sequence that decodes: one token on top of `context`."""
        self.decodes += 1
        self.decode_context += context

    def count_prefill(self, tokens: int, context: int, *, recomputed: bool = False) -> None:
        """Add the work of a chunk of a prompt. recomputed: its attention is computed over the cached context's queries, too."""
        self.prefill_tokens += tokens
        self.prefill_context += context
        self.prefill_pairs += prefill_pairs(0 if recomputed else context, tokens + context * recomputed)


def prefill_pairs(context: Any, tokens: Any) -> Any:
    """Query-key pairs of the causal attention of `tokens` tokens on top of `context`; numbers or arrays."""
    return tokens * (context + 0.5 * (tokens + 1))

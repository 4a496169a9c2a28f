"""The nouns of an engine: Sequence, one request inside it and how far it has come; Batch, what one step computes."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, eq=False)
class Sequence:
    """One request inside the engine. Counts are tokens; times are seconds since the trace's start.

    index: its place in the trace. arrival: when it reaches the scheduler. prompt, output: tokens asked for. priority: lower goes first.
    shared_keys: the prefix-cache key of each full engine block that other prompts may share, from the first; own_key + i is the key of
    block i after those (None: nothing is cached under a key).

    total: tokens known so far, prompt and generated. computed: of these and the promised ones, how many have their KV in the cache or in
    a step under way. promised: tokens that steps under way will generate. end: total when it is complete. last: the step it was last
    part of. blocks: its KV blocks; room: tokens that these hold; named: how many of them have been entered in the prefix cache;
    next_name: computed tokens at which the next one may be. received: known tokens whose KV comes from another engine, so that its
    first step here needs not compute them. held: its blocks stay when it is complete, until somebody has fetched them.
    """

    index: int
    arrival: float
    prompt: int
    output: int
    priority: int = 0
    shared_keys: Many[int] = ()
    own_key: int | None = None

    total: int = 0
    computed: int = 0
    promised: int = 0
    end: int = 0
    blocks: list[int] = field(default_factory=list)
    room: int = 0
    named: int = 0
    next_name: int = 0
    running: bool = False
    last: Batch | None = None
    preemptions: int = 0
    received: int = 0
    held: bool = False

    scheduled: float | None = None
    cached: int | None = None
    token_times: list[float] = field(default_factory=list)

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
    """One step: which sequences compute how many new tokens, and in sum what the device has to do.

    sequences, tokens: who is scheduled, and its new tokens, in the scheduler's order. samplers: those that generate a token when the
    step ends. admitted: (sequence, tokens found in the prefix cache) of those that left the waiting queue. preempted: in their order.

    prefill_tokens: new tokens of chunks (anything but one token on top of a context). prefill_context: tokens already cached under those
    chunks. prefill_pairs: query-key pairs of their causal attention. decodes: sequences that compute one token on top of a context;
    decode_context: the sum of those contexts, the new token left out. swapped: tokens whose KV goes to or comes from host memory.
    """

    sequences: list[Sequence] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    samplers: list[Sequence] = field(default_factory=list)
    admitted: list[tuple[Sequence, int]] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)
    prefill_tokens: int = 0
    prefill_context: int = 0
    prefill_pairs: float = 0.0
    decodes: int = 0
    decode_context: int = 0
    swapped: int = 0
    done: bool = False

    @property
    def new_tokens(self) -> int:
        """All tokens computed in this step."""
        return self.prefill_tokens + self.decodes

    @property
    def mixed_context(self) -> int:
        """decode_context of a step that computes chunks, too; 0 of one that only decodes."""
        return self.decode_context if self.prefill_tokens else 0

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

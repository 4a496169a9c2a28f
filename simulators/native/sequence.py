"""Sequence: one request inside the engine, and how far it has come."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulators.native.batch import Batch


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

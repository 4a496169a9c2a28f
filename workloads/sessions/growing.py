"""Prompts of a session's turns as blocks: each repeats the one before, and goes on."""

import math
from collections.abc import Iterator
from itertools import count

from workloads.trace import TraceError


class GrowingPrompts:
    """Makes the blocks of prompts of `block_size` tokens a block, each id new where a prompt says something new.

    A turn repeats the prompt before as far as its whole blocks go: a block that was filled half is another one when it is full. shared:
    tokens that all prompts begin with (a system prompt), a multiple of block_size.
    """

    def __init__(self, block_size: int, shared: int = 0) -> None:
        if block_size < 1:
            raise ValueError(f"block_size must be >= 1 token, got {block_size}")
        if shared < 0 or shared % block_size:
            raise ValueError(f"system_tokens must be a multiple of block_size {block_size}, got {shared}")
        self.block_size = block_size
        self.first = tuple(range(shared // block_size))  # the blocks of every prompt
        self._new: Iterator[int] = count(len(self.first))

    def after(self, blocks: tuple[int, ...], tokens_before: int, tokens: int) -> tuple[int, ...]:
        """The blocks of a prompt of so many tokens that follows one of `tokens_before` with these blocks."""
        kept = blocks[: min(tokens_before, tokens) // self.block_size]
        return (*kept, *(next(self._new) for _ in range(math.ceil(tokens / self.block_size) - len(kept))))

    def begun(self, tokens: int) -> tuple[int, ...]:
        """The blocks of a session's first prompt."""
        return self.after(self.first, len(self.first) * self.block_size, tokens)


def seconds(where: str, name: str, value: float) -> float:
    """A delay. Raises TraceError for one below 0."""
    if value < 0:
        raise TraceError(f"{where}: {name} must be >= 0, got {value:g}")
    return value

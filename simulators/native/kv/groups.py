"""KVGroup: layers whose KV is kept alike, and how vLLM puts the layers of a model into groups (0.32; vllm/v1/core/kv_cache_utils.py)."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KVGroup:
    """Layers that hold a block of a sequence together. Default: attention to all of a context."""

    window: int | None = None  # tokens of the latest context that the next token attends to, itself included; None: all
    chunked: bool = False  # whether that is a chunk of the context instead, at whose end attention begins anew
    state: bool = False  # linear attention: one block holds a sequence's state, however long it is

    def __post_init__(self) -> None:
        if self.window is not None and (self.window < 1 or self.state):
            raise ValueError(f"a KV group has a window of >= 1 tokens, or a state; got window {self.window} and state {self.state}")

    def passed(self, computed: int) -> int:
        """Of so many computed tokens, those at the beginning that no later token attends to."""
        if self.window is None:
            return 0
        return computed // self.window * self.window if self.chunked else max(0, computed - self.window + 1)

    def blocks(self, tokens: int, block_size: int) -> int:
        """Blocks that so many tokens fill or begin, those that are passed included."""
        return 1 if self.state else -(-tokens // block_size)

    def most(self, tokens: int, block_size: int, under_way: int) -> int:
        """Blocks that a sequence of so many tokens holds at most, while up to `under_way` tokens of it are being computed."""
        if self.window is None:
            return self.blocks(tokens, block_size)
        held = self.window + under_way if self.chunked else self.window - 1 + under_way + block_size  # a window begins within a block
        return min(self.blocks(tokens, block_size), -(-held // block_size))


def grouped(kinds: Mapping[KVGroup, int]) -> tuple[tuple[KVGroup, ...], int]:
    """The groups of a model's layers, and the layers of each: a block of the common pool holds that many layers' KV.

    kinds: layers of each kind, in the order in which the model has them first; so are the groups. All groups have as many layers as the
    kind with the fewest, or as the kind with the most where that is less than half more; the last group of a kind is padded.
    """
    if not kinds:
        raise ValueError("a model without layers has no KV groups")
    most, least = max(kinds.values()), min(kinds.values())
    size = most if most < 1.5 * least else least
    return tuple(kind for kind, layers in kinds.items() for _ in range(-(-layers // size))), size

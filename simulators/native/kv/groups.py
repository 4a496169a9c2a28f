"""KVGroup: layers whose KV is kept alike, and how vLLM puts the layers of a model into groups (0.32; vllm/v1/core/kv_cache_utils.py)."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KVGroup:
    """Layers that hold a block of a sequence together. Default: attention to all of a context."""

    window: int | None = None  # tokens of the latest context that the next token attends to, itself included; None: all
    state: bool = False  # linear attention: one block holds a sequence's state, however long it is

    def __post_init__(self) -> None:
        if self.window is not None and (self.window < 1 or self.state):
            raise ValueError(f"a KV group has a window of >= 1 tokens, or a state; got window {self.window} and state {self.state}")

    def passed(self, computed: int) -> int:
        """Of so many computed tokens, those at the beginning that no later token attends to."""
        return 0 if self.window is None else max(0, computed - self.window + 1)

    def blocks(self, tokens: int, block_size: int) -> int:
        """Blocks that so many tokens fill or begin, those that are passed included."""
        return 1 if self.state else -(-tokens // block_size)

    def most(self, tokens: int, block_size: int, under_way: int) -> int:
        """Blocks that a sequence of so many tokens holds at most, while up to `under_way` tokens of it are being computed."""
        if self.window is None:
            return self.blocks(tokens, block_size)
        return min(self.blocks(tokens, block_size), -(-(self.window - 1 + under_way) // block_size) + 1)


def grouped(full: int, windows: Mapping[int, int], states: int = 0) -> tuple[tuple[KVGroup, ...], int]:
    """The groups of a model's layers, and the layers of each: a block of the common pool holds that many layers' KV.

    full: layers that attend to all. windows: layers by their window. All groups have as many layers as the kind with the fewest, or as the
    kind with the most where that is less than half more; the last group of a kind is padded.
    """
    kinds = [(KVGroup(), full), *((KVGroup(window=window), layers) for window, layers in windows.items()), (KVGroup(state=True), states)]
    counts = [layers for _, layers in kinds if layers]
    if not counts:
        raise ValueError("a model without layers has no KV groups")
    size = max(counts) if max(counts) < 1.5 * min(counts) else min(counts)
    return tuple(kind for kind, layers in kinds for _ in range(-(-layers // size))), size

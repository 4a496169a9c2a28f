"""KVCache: paged KV memory as a scheduler sees it: find a prefix, make room for tokens, let go."""

import sys

from simulators.native.kv.block_pool import BlockPool
from simulators.native.sequence import Sequence


class KVCache:
    """num_blocks blocks of block_size tokens; with prefix_caching full blocks can be found again by what they hold.

    A block is entered in the prefix cache as soon as the step that fills it is scheduled, so that a request admitted in the same step
    finds it (the device computes in order). kept_tokens: see Limits; places of older tokens are written over. drops_last_hit: see
    Speculation.
    """

    def __init__(
        self,
        *,
        num_blocks: int,
        block_size: int,
        prefix_caching: bool,
        kept_tokens: int | None = None,
        drops_last_hit: bool = False,
    ) -> None:
        self.block_size = block_size
        self.prefix_caching = prefix_caching
        self._drops_last_hit = drops_last_hit
        self.pool = BlockPool(num_blocks)
        self._most = sys.maxsize if kept_tokens is None else -(-kept_tokens // block_size) + 1  # blocks of a sequence

    @property
    def blocks(self) -> int:
        """Blocks that it has."""
        return self.pool.size

    @property
    def used_blocks(self) -> int:
        """Blocks held by sequences (shared ones count once)."""
        return self.pool.size - self.pool.free

    def blocks_for(self, tokens: int) -> int:
        """Blocks that the first `tokens` tokens of a sequence fill or begin, as far as they are kept."""
        return min(-(-tokens // self.block_size), self._most)

    def find_prefix(self, sequence: Sequence) -> list[int]:
        """The blocks that already hold the sequence's beginning. They never hold all of it: its last token must be computed."""
        found: list[int] = []
        if self.prefix_caching:
            for i in range((sequence.total - 1) // self.block_size):
                block = self.pool.find(sequence.key(i))
                if block is None:
                    break
                found.append(block)
        return found[:-1] if self._drops_last_hit else found

    def cached_tokens(self, sequence: Sequence) -> int:
        """Tokens of the sequence's beginning that the prefix cache holds, never all."""
        return len(self.find_prefix(sequence)) * self.block_size

    def admit(self, sequence: Sequence, prefix: list[int], tokens: int, *, spare: int, whole: bool, ahead: int = 0) -> bool:
        """Give a waiting sequence the blocks of its prefix and room for `tokens` more; False, and nothing done, when there are too few.

        spare: blocks that must stay free afterwards. whole: admit it only when all its known tokens would fit. ahead: places behind
        those tokens for which there must be room, too.
        """
        context = len(prefix) * self.block_size
        free = self.pool.free - spare - sum(map(self.pool.is_free, prefix))  # a found block leaves the free queue too
        needed = self.blocks_for(max(context + tokens + ahead, sequence.total if whole else 0)) - len(prefix)
        if needed > free:
            return False
        self.pool.hold(prefix)
        new = self.blocks_for(context + tokens + ahead) - len(prefix)
        sequence.blocks = prefix + self.pool.take(new)
        self._set_room(sequence)
        self._set_named(sequence, len(prefix))
        self.remember(sequence, min(context + tokens, sequence.total))
        return True

    def extend(self, sequence: Sequence, tokens: int, *, ahead: int = 0) -> bool:
        """Make room for `tokens` more of a running sequence, and `ahead` behind them; False, and nothing done, when there are too few free
        blocks.

        There is nothing to do while computed + tokens + ahead is within `room` and computed + tokens below `next_name`: callers may save
        the call.
        """
        after = sequence.computed + tokens
        if after + ahead > sequence.room:
            needed = self.blocks_for(after + ahead) - len(sequence.blocks)
            if needed > self.pool.free:
                return False
            sequence.blocks += self.pool.take(needed)
            self._set_room(sequence)
        self.remember(sequence, min(after, sequence.total))
        return True

    def remember(self, sequence: Sequence, tokens: int) -> None:
        """Enter the full blocks of the sequence's first `tokens` tokens in the prefix cache, if there is one."""
        if tokens >= sequence.next_name:
            full = tokens // self.block_size
            for i in range(sequence.named, full):
                self.pool.name(sequence.blocks[i], sequence.key(i))
            self._set_named(sequence, full)

    def release(self, sequence: Sequence) -> None:
        """Take all blocks from a sequence, the last ones first, so that a prefix is lost from its end."""
        self.pool.give_back(reversed(sequence.blocks))
        sequence.blocks = []
        sequence.room = 0
        self._set_named(sequence, 0)

    def _set_room(self, sequence: Sequence) -> None:
        blocks = len(sequence.blocks)
        sequence.room = blocks * self.block_size if blocks < self._most else sys.maxsize

    def _set_named(self, sequence: Sequence, blocks: int) -> None:
        sequence.named = blocks
        sequence.next_name = (blocks + 1) * self.block_size if self.prefix_caching else sys.maxsize

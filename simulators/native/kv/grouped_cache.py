"""GroupedCache: KV memory whose layers are in groups that share one pool of blocks, as vLLM's HybridKVCacheCoordinator keeps it (0.32)."""

from collections import defaultdict
from collections.abc import Sequence as Many
from dataclasses import dataclass, field

from simulators.native.kv.block_pool import BlockPool
from simulators.native.kv.groups import KVGroup
from simulators.native.sequence import Sequence

Blocks = list[int | None]  # of one group, by place; None: the block was never held, or is passed


@dataclass(frozen=True, slots=True)
class GroupedPrefix:
    """Blocks that hold a sequence's beginning, by group; their number is the same in each."""

    groups: Many[Blocks]
    blocks: int

    def __len__(self) -> int:
        return self.blocks


@dataclass(slots=True)
class Held:
    """What a sequence holds of each group: its blocks, and how many of them have been entered in the prefix cache."""

    blocks: list[Blocks]
    named: list[int] = field(default_factory=list)


class GroupedCache:
    """num_blocks blocks of block_size tokens for all groups; the interface is that of KVCache.

    A group with a window, or chunks, gives back the blocks that are wholly behind it, each time a step of the sequence is scheduled, as
    far as no step under way reads them. Its prefix is found where the blocks of one window, or the last chunk, are there, whatever came
    before them. most_tokens: of one sequence, that may be under way. Raises ValueError for groups that it cannot keep.
    """

    def __init__(self, groups: Many[KVGroup], *, num_blocks: int, block_size: int, prefix_caching: bool, most_tokens: int) -> None:
        if prefix_caching and any(group.state for group in groups):
            raise ValueError("a state cannot be shared: prefix_caching must be off where layers have linear attention")
        self.groups, self.block_size, self.prefix_caching, self.most_tokens = tuple(groups), block_size, prefix_caching, most_tokens
        self.pool = BlockPool(num_blocks)
        self._held: dict[Sequence, Held] = {}
        self._alike: dict[KVGroup, list[int]] = defaultdict(list)  # places of equal groups: these are looked up together
        for place, group in enumerate(groups):
            self._alike[group].append(place)

    @property
    def blocks(self) -> int:
        """Blocks that it has."""
        return self.pool.size

    @property
    def used_blocks(self) -> int:
        """Blocks held by sequences (shared ones count once)."""
        return self.pool.size - self.pool.free

    def cached_tokens(self, sequence: Sequence) -> int:
        """Tokens of the sequence's beginning that the prefix cache holds in all groups, never all."""
        return len(self.find_prefix(sequence)) * self.block_size

    def find_prefix(self, sequence: Sequence) -> GroupedPrefix:
        """The longest beginning that all groups hold. It never is all of it: its last token must be computed."""
        found: list[Blocks] = [[] for _ in self.groups]
        length = (sequence.total - 1) // self.block_size if self.prefix_caching else 0
        before = -1
        while length != before:  # each kind of group accepts the length, or shortens it
            before = length
            for group, places in sorted(self._alike.items(), key=lambda item: item[0].window is not None):
                find = self._window if group.window is not None and not group.chunked else self._all
                hits = find(sequence, group, places, length)
                length = len(hits[0])
                for place, blocks in zip(places, hits, strict=True):
                    found[place] = blocks
        return GroupedPrefix([blocks[:length] for blocks in found], length)

    def admit(self, sequence: Sequence, prefix: GroupedPrefix, tokens: int, *, spare: int, whole: bool, ahead: int = 0) -> bool:
        """See KVCache."""
        context = len(prefix) * self.block_size
        passed = [group.passed(context) // self.block_size for group in self.groups]
        found = [blocks[first:] for blocks, first in zip(prefix.groups, passed, strict=True)]
        leaving = sum(self.pool.is_free(block) for blocks in found for block in blocks if block is not None)
        needs = [self._needed(context + tokens + ahead, prefix, passed)]
        if whole:
            needs.append(self._needed(sequence.total, prefix, passed, most=True))
        if max(needs) + leaving + spare > self.pool.free:
            return False
        for blocks in found:
            self.pool.hold(block for block in blocks if block is not None)
        self._held[sequence] = Held([[*[None] * first, *blocks] for first, blocks in zip(passed, found, strict=True)])
        self._held[sequence].named = [len(blocks) for blocks in self._held[sequence].blocks]
        self._take(sequence, context + tokens + ahead)
        self.remember(sequence, min(context + tokens, sequence.total))
        return True

    def extend(self, sequence: Sequence, tokens: int, *, ahead: int = 0) -> bool:
        """See KVCache; what windows have passed is given back in any case."""
        held, after = self._held[sequence], sequence.computed + tokens
        for group, blocks in zip(self.groups, held.blocks, strict=True):
            self._give_back_passed(group, blocks, sequence.computed - sequence.under_way)
        needed = sum(max(0, g.blocks(after + ahead, self.block_size) - len(b)) for g, b in zip(self.groups, held.blocks, strict=True))
        if needed > self.pool.free:
            return False
        self._take(sequence, after + ahead)
        self.remember(sequence, min(after, sequence.total))
        return True

    def remember(self, sequence: Sequence, tokens: int) -> None:
        """See KVCache."""
        if not self.prefix_caching:
            return
        held, full = self._held[sequence], tokens // self.block_size
        for place, blocks in enumerate(held.blocks):
            for i in range(held.named[place], full):
                if (block := blocks[i]) is not None:
                    self.pool.name(block, self._key(sequence, i, place))
            held.named[place] = max(held.named[place], full)

    def release(self, sequence: Sequence) -> None:
        """See KVCache; group by group."""
        for blocks in self._held.pop(sequence).blocks:
            self.pool.give_back(block for block in reversed(blocks) if block is not None)

    def _key(self, sequence: Sequence, block: int, group: int) -> int:
        return sequence.key(block) * len(self.groups) + group

    def _find(self, sequence: Sequence, block: int, places: Many[int]) -> list[int] | None:
        """The block in each of these groups; None where one of them has lost it."""
        found = [self.pool.find(self._key(sequence, block, place)) for place in places]
        return None if None in found else found  # type: ignore[return-value]

    def _all(self, sequence: Sequence, group: KVGroup, places: Many[int], most: int) -> list[Blocks]:
        """The longest run of blocks from the beginning on, or from that of the last chunk, in each of these groups."""
        first = group.passed(most * self.block_size) // self.block_size
        hits: list[Blocks] = [[None] * first for _ in places]
        for i in range(first, most):
            found = self._find(sequence, i, places)
            if found is None:
                break
            for hit, block in zip(hits, found, strict=True):
                hit.append(block)
        return hits

    def _window(self, sequence: Sequence, group: KVGroup, places: Many[int], most: int) -> list[Blocks]:
        """The longest beginning whose last blocks, as many as a window needs, are there; or a shorter one that is there from its start."""
        assert group.window is not None
        needed, run = -(-(group.window - 1) // self.block_size), 0
        hits: list[Blocks] = [[None] * most for _ in places]
        for i in range(most - 1, -1, -1):
            found = self._find(sequence, i, places)
            run = 0 if found is None else run + 1
            for hit, block in zip(hits, found or [], strict=False):
                hit[i] = block
            if run and run >= needed:
                return [hit[: i + run] for hit in hits]
        return [hit[:run] for hit in hits]

    def _needed(self, tokens: int, prefix: GroupedPrefix, passed: Many[int], *, most: bool = False) -> int:
        """Blocks that a waiting sequence needs beside those found. most: never more than it holds at once."""
        needed = 0
        for group, first in zip(self.groups, passed, strict=True):
            size = group.most(tokens, self.block_size, self.most_tokens) if most else group.blocks(tokens, self.block_size)
            needed += max(0, size - max(first, len(prefix)))
        return needed

    def _take(self, sequence: Sequence, tokens: int) -> None:
        for group, blocks in zip(self.groups, self._held[sequence].blocks, strict=True):
            blocks += self.pool.take(max(0, group.blocks(tokens, self.block_size) - len(blocks)))

    def _give_back_passed(self, group: KVGroup, blocks: Blocks, computed: int) -> None:
        """Blocks wholly before the window of the token that comes after `computed` ones, the last of them first."""
        freed: list[int] = []
        for i in range(min(group.passed(computed) // self.block_size, len(blocks)) - 1, -1, -1):
            block = blocks[i]
            if block is None:
                break
            freed.append(block)
            blocks[i] = None
        self.pool.give_back(freed)

"""BlockPool: the KV cache's blocks: which are free, in what order they are reused, and what the prefix cache still finds in them."""

from collections import OrderedDict
from collections.abc import Iterable


class BlockPool:
    """Blocks 0 .. size-1 with reference counts. A free block keeps its content, and its key, until it is reused.

    Free blocks form a queue, and are taken from its front. A block given back with a key goes to the back, so that least recently used
    content is lost first. A block without a key goes to the front: its content can never be found again.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(size))
        self._references = [0] * size
        self._key: list[int | None] = [None] * size
        self._found: dict[int, list[int]] = {}  # key -> blocks that hold this content, in the order in which they were named

    @property
    def free(self) -> int:
        """Number of blocks that nobody holds, those that still have content for the prefix cache included."""
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """Hold `count` blocks from the front of the free queue; what they held before is forgotten. There must be as many."""
        taken = [self._free.popitem(last=False)[0] for _ in range(count)]
        for block in taken:
            self._references[block] = 1
            if self._key[block] is not None:
                self._forget(block)
        return taken

    def hold(self, blocks: Iterable[int]) -> None:
        """Hold blocks that were found by key: a further reference to each."""
        for block in blocks:
            if self._references[block] == 0:
                del self._free[block]
            self._references[block] += 1

    def give_back(self, blocks: Iterable[int]) -> None:
        """Drop one reference to each block; those that nobody holds any more become free, in the order given."""
        for block in blocks:
            self._references[block] -= 1
            if self._references[block] == 0:
                self._free[block] = None
                if self._key[block] is None:
                    self._free.move_to_end(block, last=False)

    def is_free(self, block: int) -> bool:
        """True when nobody holds the block."""
        return self._references[block] == 0

    def name(self, block: int, key: int) -> None:
        """Let a held, full block be found under `key` from now on. Several blocks may have the same key; the oldest is found."""
        self._key[block] = key
        self._found.setdefault(key, []).append(block)

    def find(self, key: int) -> int | None:
        """The block with this content, or None."""
        blocks = self._found.get(key)
        return blocks[0] if blocks else None

    def _forget(self, block: int) -> None:
        key = self._key[block]
        assert key is not None
        self._key[block] = None
        blocks = self._found[key]
        if len(blocks) == 1:
            del self._found[key]
        else:
            blocks.remove(block)

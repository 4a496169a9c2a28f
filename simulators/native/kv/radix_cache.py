"""RadixCache: SGLang's KV pool and prefix cache as its scheduler sees them: free pages, pages in the tree, pages that requests hold.

Behaviour of sglang 0.5.23's UnifiedRadixCache with full attention (sglang/srt/mem_cache/unified_radix_cache.py,
unified_cache/unified_tree_core.py and components/full.py, allocator/base.py), not its code.
tests/simulators/native/scheduling/test_against_sglang.py compares it with that class in every step.
"""

import heapq
from collections.abc import Iterator

from simulators.native.sequence import Sequence


class Node:
    """A stretch of pages of one prompt: pages `start` to `end` - 1 of `sequence`, behind all those of its ancestors.

    locks: requests that hold it (and so all its ancestors). used: when it was last looked at, as a count.
    """

    __slots__ = ("children", "end", "locks", "parent", "sequence", "start", "used")

    def __init__(self, parent: "Node | None", sequence: Sequence | None, start: int, end: int, used: float) -> None:
        self.parent, self.sequence, self.start, self.end, self.used = parent, sequence, start, end, used
        self.children: dict[int, Node] = {}
        self.locks = 0

    def path(self) -> Iterator["Node"]:
        """This node and its ancestors, the root left out."""
        node = self
        while node.parent is not None:
            yield node
            node = node.parent


class RadixCache:
    """`pages` pages of `page_size` tokens: free ones, ones in the tree, and ones that requests hold outside it.

    A tree that is not `enabled` finds and keeps nothing. Nodes that nobody has locked can be evicted, least recently used leaves first.
    """

    def __init__(self, *, pages: int, page_size: int, enabled: bool) -> None:
        self.pages, self.page_size, self.enabled = pages, page_size, enabled
        self.free = pages
        self.evictable = 0  # pages of the tree that nobody has locked
        self._clock = 0.0
        self._root = Node(None, None, 0, 0, self._tick())
        self._leaves: set[Node] = set()  # nodes that can be evicted now

    @property
    def blocks(self) -> int:
        """Pages that it has."""
        return self.pages

    @property
    def used_blocks(self) -> int:
        """Pages that requests hold, in the tree or outside it."""
        return self.pages - self.free - self.evictable

    @property
    def available(self) -> int:
        """Tokens of memory that can be had: free ones, and those in nodes that nobody has locked."""
        return (self.free + self.evictable) * self.page_size

    def cached_tokens(self, sequence: Sequence) -> int:
        """Tokens of the sequence's beginning that the tree holds, never all. Only looks: nothing counts as used."""
        node, found, pages = self._root, 0, (sequence.total - 1) // self.page_size if self.enabled else 0
        while found < pages and (child := node.children.get(sequence.key(found))) is not None:
            found = self._common(child, sequence, pages)
            if found < child.end:
                break
            node = child
        return found * self.page_size

    def match(self, sequence: Sequence, tokens: int) -> Node:
        """The node whose path holds the longest cached beginning of the sequence's first `tokens` tokens, whole pages. Counts as a use."""
        pages = tokens // self.page_size
        if not self.enabled or not pages:
            return self._root
        node = self._root
        while node.end < pages and (child := node.children.get(sequence.key(node.end))) is not None:
            same = self._common(child, sequence, pages)
            if same < child.end:
                node = self._split(child, same)
                break
            node = child
        used = self._tick()
        for visited in (*node.path(), self._root):
            visited.used = used
            used -= 1e-5  # deeper nodes count as used later
        return node

    def insert(self, sequence: Sequence, tokens: int) -> tuple[Node, int]:
        """Keep the whole pages of the sequence's first `tokens` tokens; returns their node, and how many pages the tree had already."""
        pages = tokens // self.page_size
        node = self._root
        node.used = self._tick()
        while node.end < pages and (child := node.children.get(sequence.key(node.end))) is not None:
            child.used = self._tick()
            same = self._common(child, sequence, pages)
            node = self._split(child, same) if same < child.end else child
            if node is not child:
                break
        had = node.end
        if had < pages:
            leaf = Node(node, sequence, had, pages, self._tick())
            node.children[sequence.key(had)] = leaf
            self.evictable += pages - had
            self._leaves.discard(node)
            self._leaves.add(leaf)
            node = leaf
        return node, had

    def lock(self, node: Node) -> None:
        """Hold a node and its ancestors: they cannot be evicted."""
        for held in node.path():
            if held.locks == 0:
                self.evictable -= held.end - held.start
                self._leaves.discard(held)
            held.locks += 1

    def unlock(self, node: Node) -> None:
        """Let go of them."""
        for held in node.path():
            held.locks -= 1
            if held.locks == 0:
                self.evictable += held.end - held.start
                if not held.children:
                    self._leaves.add(held)

    def make_room(self, tokens: int) -> bool:
        """Evict until `tokens` are free, or nothing can be evicted any more; returns whether they are free."""
        if self.free * self.page_size < tokens:
            heap = [(leaf.used, id(leaf), leaf) for leaf in self._leaves]
            heapq.heapify(heap)
            while heap and self.free * self.page_size < tokens:
                parent = self._drop(heapq.heappop(heap)[2])
                if parent in self._leaves:
                    heapq.heappush(heap, (parent.used, id(parent), parent))
        return self.free * self.page_size >= tokens

    def _drop(self, leaf: Node) -> Node:
        parent, sequence = leaf.parent, leaf.sequence
        assert parent is not None and sequence is not None
        del parent.children[sequence.key(leaf.start)]
        self._leaves.discard(leaf)
        self.free += leaf.end - leaf.start
        self.evictable -= leaf.end - leaf.start
        if parent is not self._root and not parent.children and not parent.locks:
            self._leaves.add(parent)
        return parent

    def _split(self, child: Node, at: int) -> Node:
        """Cut a node in two before its page `at`; returns the upper part, which is new."""
        assert child.parent is not None and child.sequence is not None
        upper = Node(child.parent, child.sequence, child.start, at, self._tick())
        upper.locks = child.locks
        child.parent.children[child.sequence.key(child.start)] = upper
        upper.children[child.sequence.key(at)] = child
        child.parent, child.start, child.used = upper, at, self._tick()
        return upper

    def _tick(self) -> float:
        self._clock += 1.0
        return self._clock

    @staticmethod
    def _common(child: Node, sequence: Sequence, pages: int) -> int:
        """The page at which the node and the sequence's first `pages` pages begin to differ, at most the node's end.

        Their first page is equal.
        """
        assert child.sequence is not None
        end = min(child.end, pages)
        if child.sequence is sequence:
            return end
        low, high = child.start + 1, min(end, len(sequence.shared_keys), len(child.sequence.shared_keys))
        ours, theirs = sequence.shared_keys, child.sequence.shared_keys
        while low < high:  # a key stands for all tokens up to its page's end: equal ones have equal ones before them
            middle = (low + high + 1) // 2
            low, high = (middle, high) if ours[middle - 1] == theirs[middle - 1] else (low, middle - 1)
        return low

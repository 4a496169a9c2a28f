"""See block_pool.py of the readable engine. The free queue is a doubly linked ring; keys are found in a hash table with open addressing.

Invariants: a block with references is in no queue, one without is in the queue, once. Block number `size` is the ring's two ends: its next
is the front. Blocks of equal key form a chain from the oldest, which the table names.
A key that only one sequence can ask for is not listed before that sequence waits (`list_key`): nobody asks before, and in most runs never.
"""

from simulators.native.fast.compiled import compiled
from simulators.native.fast.records import NONE, Array, BlockArrays


@compiled
def take(p: BlockArrays) -> int:
    """Hold a block from the front of the free queue; what it held before is forgotten. There must be one."""
    blocks = p.blocks
    block: int = p.links[len(blocks)].next
    _leave(p, block)
    blocks[block].references = 1
    if blocks[block].listed:
        _forget(p, block)
    blocks[block].key = 0
    return block


@compiled
def hold(p: BlockArrays, block: int) -> None:
    """A further reference to a block that was found by key."""
    if p.blocks[block].references == 0:
        _leave(p, block)
    p.blocks[block].references += 1


@compiled
def give_back(p: BlockArrays, block: int) -> None:
    """Drop a reference. A block that nobody holds any more goes to the back of the free queue, without a key to the front."""
    blocks, links = p.blocks, p.links
    blocks[block].references -= 1
    if blocks[block].references == 0:
        ends = len(blocks)
        before = links[ends].previous if blocks[block].key else ends
        after = links[before].next
        links[block].previous, links[block].next = before, after
        links[before].next = block
        links[after].previous = block
        p.level[0].free += 1


@compiled
def list_key(p: BlockArrays, block: int) -> None:
    """Let a block with a key be found under it; of several with the same key the oldest is found."""
    blocks, found = p.blocks, p.found
    key = blocks[block].key
    blocks[block].listed = 1
    blocks[block].newer = NONE
    row = _row(found, key)
    if found[row].oldest == NONE:
        found[row].key, found[row].oldest = key, block
        blocks[block].older = NONE
        return
    last = found[row].oldest
    while blocks[last].newer != NONE:
        last = blocks[last].newer
    blocks[last].newer = block
    blocks[block].older = last


@compiled
def find(p: BlockArrays, key: int) -> int:
    """The block with this content, or NONE."""
    oldest: int = p.found[_row(p.found, key)].oldest
    return oldest


@compiled
def _leave(p: BlockArrays, block: int) -> None:
    """Take a block out of the free queue."""
    links = p.links
    before, after = links[block].previous, links[block].next
    links[before].next = after
    links[after].previous = before
    p.level[0].free -= 1


@compiled
def _forget(p: BlockArrays, block: int) -> None:
    blocks, found = p.blocks, p.found
    older, newer = blocks[block].older, blocks[block].newer
    blocks[block].listed = 0
    if newer != NONE:
        blocks[newer].older = older
    if older != NONE:
        blocks[older].newer = newer
        return
    row = _row(found, blocks[block].key)
    found[row].oldest = newer
    if newer == NONE:
        _close_gap(found, row)


@compiled
def _row(found: Array, key: int) -> int:
    """The key's row in the table, or the free row where it would go."""
    row = _home(found, key)
    while found[row].oldest != NONE and found[row].key != key:
        row = (row + 1) & (len(found) - 1)
    return row


@compiled
def _home(found: Array, key: int) -> int:
    """Where the search for a key begins: its lower and its upper half, spread by an odd factor (Knuth's multiplicative hashing)."""
    mixed = (key ^ (key >> 32)) * 0x9E3779B97F4A7C1
    return (mixed >> 24) & (len(found) - 1)


@compiled
def _close_gap(found: Array, gap: int) -> None:
    """Move later rows up, so that no search ends too early at the gap (Knuth, The Art of Computer Programming 3, 6.4, algorithm R)."""
    mask = len(found) - 1
    row = (gap + 1) & mask
    while found[row].oldest != NONE:
        home = _home(found, found[row].key)
        if ((row - home) & mask) >= ((row - gap) & mask):
            found[gap].key, found[gap].oldest = found[row].key, found[row].oldest
            found[row].oldest = NONE
            gap = row
        row = (row + 1) & mask

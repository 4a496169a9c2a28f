"""See kv_cache.py of the readable engine."""

from simulators.native.fast import block_pool, grouped_cache
from simulators.native.fast.compiled import compiled
from simulators.native.fast.records import NONE, EngineArrays

SPAN = 1 << 32  # see prefix_keys.py
NEVER = 2**31 - 1


@compiled
def key_of(e: EngineArrays, index: int, place: int) -> int:
    """See Sequence.key."""
    s = e.sequences[index]
    if place < s.shared_count:
        shared: int = e.shared_keys[s.shared + place]
        return shared
    return -(index + 1) * SPAN + place


@compiled
def find_prefix(e: EngineArrays, index: int) -> int:
    """How many blocks of the sequence's beginning are still there; their numbers are written into the row of the next free slot.

    Never all of it: its last token must be computed to go on.
    """
    s, slot = e.sequences[index], e.free_slots[e.clock[0].slots - 1]
    found = 0
    if e.limits[0].prefix_caching:
        if len(e.groups):
            return grouped_cache.find_prefix(e, index)
        while found < (s.total - 1) // e.limits[0].block_size:
            block = block_pool.find(e.pool, key_of(e, index, found))
            if block == NONE:
                break
            e.blocks[slot, found] = block
            found += 1
    return found - 1 if found and e.limits[0].drops_last_hit else found


@compiled
def admit(e: EngineArrays, index: int, prefix: int, tokens: int, spare: int, ahead: int) -> bool:
    """Give a waiting sequence the next free slot, the prefix found for it, and room for `tokens` more and `ahead` behind them.

    False, and nothing done, when there are too few blocks: `spare` must stay free afterwards.
    """
    s, clock, block_size = e.sequences[index], e.clock[0], e.limits[0].block_size
    slot = e.free_slots[clock.slots - 1]
    context = prefix * block_size
    if len(e.groups):
        if not grouped_cache.admit(e, index, slot, prefix, context + tokens + ahead, spare):
            return False
        clock.slots -= 1
        _set_named(e, index, prefix)
        remember(e, index, min(context + tokens, s.total))
        return True
    free = e.pool.level[0].free - spare
    for place in range(prefix):  # a found block leaves the free queue too
        free -= e.pool.blocks[e.blocks[slot, place]].references == 0
    least = context + tokens + ahead
    if e.limits[0].reserve_full_prompt:
        least = max(least, s.total)
    if -(-least // block_size) - prefix > free:
        return False
    clock.slots -= 1
    s.slot = slot
    for place in range(prefix):
        block_pool.hold(e.pool, e.blocks[slot, place])
    s.held = prefix
    _take(e, index, context + tokens + ahead)
    _set_named(e, index, prefix)
    remember(e, index, min(context + tokens, s.total))
    return True


@compiled
def extend(e: EngineArrays, index: int, after: int, ahead: int) -> bool:
    """Make room for a running sequence's first `after` tokens and `ahead` more; False, and nothing done, when there are too few free
    blocks.
    """
    s = e.sequences[index]
    if after + ahead > s.room:
        if len(e.groups):
            if not grouped_cache.extend(e, index, after + ahead):
                return False
        elif -(-(after + ahead) // e.limits[0].block_size) - s.held > e.pool.level[0].free:
            return False
        else:
            _take(e, index, after + ahead)
    remember(e, index, min(after, s.total))
    return True


@compiled
def remember(e: EngineArrays, index: int, tokens: int) -> None:
    """Give the full blocks of the sequence's first `tokens` tokens their keys; list those that others may ask for."""
    s = e.sequences[index]
    if tokens >= s.next_name:
        full = tokens // e.limits[0].block_size
        if len(e.groups):
            grouped_cache.name(e, index, s.named, full)
        else:
            _name(e, index, s.named, full)
        _set_named(e, index, full)


@compiled
def release(e: EngineArrays, index: int, returning: bool) -> None:
    """Take slot and blocks from a sequence, the last ones first. returning: it will ask for the blocks again, so they are listed."""
    s = e.sequences[index]
    if len(e.groups):
        grouped_cache.release(e, index, returning)
    else:
        _release(e, index, returning)
    e.free_slots[e.clock[0].slots] = s.slot
    e.clock[0].slots += 1
    s.slot = NONE
    s.held = s.room = 0
    _set_named(e, index, 0)


@compiled
def _name(e: EngineArrays, index: int, first: int, full: int) -> None:
    s = e.sequences[index]
    for place in range(first, full):
        block = e.blocks[s.slot, place]
        e.pool.blocks[block].key = key_of(e, index, place)
        if place < s.shared_count:
            block_pool.list_key(e.pool, block)


@compiled
def _release(e: EngineArrays, index: int, returning: bool) -> None:
    s = e.sequences[index]
    if returning:
        for place in range(s.shared_count, s.named):
            block = e.blocks[s.slot, place]
            if not e.pool.blocks[block].listed:
                block_pool.list_key(e.pool, block)
    for place in range(s.held - 1, -1, -1):
        block_pool.give_back(e.pool, e.blocks[s.slot, place])


@compiled
def _take(e: EngineArrays, index: int, tokens: int) -> None:
    s, block_size = e.sequences[index], e.limits[0].block_size
    for place in range(s.held, -(-tokens // block_size)):
        e.blocks[s.slot, place] = block_pool.take(e.pool)
        s.held += 1
    s.room = s.held * block_size


@compiled
def _set_named(e: EngineArrays, index: int, blocks: int) -> None:
    s = e.sequences[index]
    s.named = blocks
    s.next_name = (blocks + 1) * e.limits[0].block_size if e.limits[0].prefix_caching else NEVER

"""See grouped_cache.py of the readable engine. The places of a sequence's blocks in group g are a stretch of its slot's row of `blocks`.

All groups have as many places (`held`), and as many of them named; a state is in the first one. Of each group the first `passed` are given
back.
"""

from simulators.native.fast import block_pool
from simulators.native.fast.compiled import compiled
from simulators.native.fast.records import NONE, EngineArrays

SPAN = 1 << 32  # see prefix_keys.py


@compiled
def find_prefix(e: EngineArrays, index: int) -> int:
    """How many blocks of the sequence's beginning all groups hold; the largest number that suits each of them."""
    length: int = (e.sequences[index].total - 1) // e.limits[0].block_size
    before = NONE
    while length != before:
        before = length
        for group in range(len(e.groups)):
            if e.groups[group].window and not e.groups[group].chunked:
                length = _in_window(e, index, group, length)
            else:
                length = _in_all(e, index, group, length)
    return length


@compiled
def admit(e: EngineArrays, index: int, slot: int, prefix: int, tokens: int, spare: int) -> bool:
    """Give a waiting sequence this slot, the prefix that was found, and room for so many tokens in all; False, and nothing done, when
    there are too few blocks. Its found blocks are held in the order of the groups.
    """
    s, size = e.sequences[index], e.limits[0].block_size
    leaving, needed, at_most = 0, 0, 0
    for group in range(len(e.groups)):
        first = _passed(e, group, prefix * size)
        for place in range(first, prefix):
            leaving += e.pool.blocks[_found(e, index, group, place)].references == 0
        has = max(first, prefix)
        needed += max(0, _blocks(e, group, tokens) - has)
        at_most += max(0, _most(e, group, s.total) - has)
    if e.limits[0].reserve_full_prompt:
        needed = max(needed, at_most)
    if needed + leaving + spare > e.pool.level[0].free:
        return False
    for group in range(len(e.groups)):
        first = e.passed[slot, group] = _passed(e, group, prefix * size)
        for place in range(first, prefix):
            block = _found(e, index, group, place)
            block_pool.hold(e.pool, block)
            e.blocks[slot, _column(e, group) + place] = block
    s.slot = slot
    s.held = prefix
    _take(e, index, tokens)
    return True


@compiled
def extend(e: EngineArrays, index: int, tokens: int) -> bool:
    """Give back what windows have passed, and make room for a running sequence's first `tokens` tokens; False when there are too few."""
    s = e.sequences[index]
    needed = 0
    for group in range(len(e.groups)):
        _give_back_passed(e, index, group, s.computed - s.under_way)
        if not e.groups[group].state:
            needed += max(0, _blocks(e, group, tokens) - s.held)
    if needed > e.pool.level[0].free:
        return False
    _take(e, index, tokens)
    return True


@compiled
def name(e: EngineArrays, index: int, first: int, full: int) -> None:
    """Give the blocks from place `first` to `full` their keys; list those that others may ask for."""
    s = e.sequences[index]
    for group in range(len(e.groups)):
        for place in range(max(first, e.passed[s.slot, group]), full):
            block = e.blocks[s.slot, _column(e, group) + place]
            e.pool.blocks[block].key = _key(e, index, group, place)
            if place < s.shared_count:
                block_pool.list_key(e.pool, block)


@compiled
def release(e: EngineArrays, index: int, returning: bool) -> None:
    """Take the blocks from a sequence, group by group, the last ones first. returning: it will ask for them again."""
    s = e.sequences[index]
    for group in range(len(e.groups)):
        held = 1 if e.groups[group].state else s.held
        if returning:
            for place in range(max(s.shared_count, e.passed[s.slot, group]), min(s.named, held)):
                _list(e, e.blocks[s.slot, _column(e, group) + place])
    for group in range(len(e.groups)):
        held = 1 if e.groups[group].state else s.held
        for place in range(held - 1, e.passed[s.slot, group] - 1, -1):
            block_pool.give_back(e.pool, e.blocks[s.slot, _column(e, group) + place])


@compiled
def _take(e: EngineArrays, index: int, tokens: int) -> None:
    s = e.sequences[index]
    before, after = s.held, max(s.held, -(-tokens // e.limits[0].block_size))
    for group in range(len(e.groups)):
        last = after
        if e.groups[group].state:
            last = 1 if before == 0 else before
        for place in range(before, last):
            e.blocks[s.slot, _column(e, group) + place] = block_pool.take(e.pool)
    s.held = after
    _set_room(e, index)


@compiled
def _set_room(e: EngineArrays, index: int) -> None:
    """Tokens up to which `extend` has nothing to do: no more than fit, and none behind which a window has passed another block."""
    s, size = e.sequences[index], e.limits[0].block_size
    s.room = s.held * size
    for group in range(len(e.groups)):
        window, next_passed = e.groups[group].window, (e.passed[s.slot, group] + 1) * size
        if e.groups[group].chunked:
            s.room = min(s.room, -(-next_passed // window) * window - 1)
        elif window:
            s.room = min(s.room, next_passed + window - 2)


@compiled
def _give_back_passed(e: EngineArrays, index: int, group: int, computed: int) -> None:
    """Blocks wholly before the window of the token that comes after `computed` ones, the last of them first."""
    s = e.sequences[index]
    first, passed = e.passed[s.slot, group], min(_passed(e, group, computed), s.held)
    for place in range(passed - 1, first - 1, -1):
        block = e.blocks[s.slot, _column(e, group) + place]
        if e.pool.blocks[block].key:  # it may be asked for again, if the sequence has to return
            _list(e, block)
        block_pool.give_back(e.pool, block)
    e.passed[s.slot, group] = max(first, passed)


@compiled
def _list(e: EngineArrays, block: int) -> None:
    if not e.pool.blocks[block].listed:
        block_pool.list_key(e.pool, block)


@compiled
def _in_all(e: EngineArrays, index: int, group: int, most: int) -> int:
    """See GroupedCache._all."""
    length: int = _passed(e, group, most * e.limits[0].block_size)
    while length < most and _found(e, index, group, length) != NONE:
        length += 1
    return length


@compiled
def _in_window(e: EngineArrays, index: int, group: int, most: int) -> int:
    """See GroupedCache._window."""
    needed, run = -(-(e.groups[group].window - 1) // e.limits[0].block_size), 0
    for place in range(most - 1, -1, -1):
        run = run + 1 if _found(e, index, group, place) != NONE else 0
        if run and run >= needed:
            return place + run
    return run


@compiled
def _found(e: EngineArrays, index: int, group: int, place: int) -> int:
    """The block with this content of the sequence, or NONE."""
    block: int = block_pool.find(e.pool, _key(e, index, group, place))
    return block


@compiled
def _key(e: EngineArrays, index: int, group: int, place: int) -> int:
    """Of each group's own, from Sequence.key."""
    s = e.sequences[index]
    key = e.shared_keys[s.shared + place] if place < s.shared_count else -(index + 1) * SPAN + place
    made: int = key * len(e.groups) + group
    return made


@compiled
def _passed(e: EngineArrays, group: int, computed: int) -> int:
    """See KVGroup.passed, in whole blocks."""
    window = e.groups[group].window
    if window == 0:
        return 0
    tokens = computed // window * window if e.groups[group].chunked else max(0, computed - window + 1)
    blocks: int = tokens // e.limits[0].block_size
    return blocks


@compiled
def _blocks(e: EngineArrays, group: int, tokens: int) -> int:
    """See KVGroup.blocks."""
    blocks: int = 1 if e.groups[group].state else -(-tokens // e.limits[0].block_size)
    return blocks


@compiled
def _most(e: EngineArrays, group: int, tokens: int) -> int:
    """See KVGroup.most."""
    window, size = e.groups[group].window, e.limits[0].block_size
    if window == 0:
        return _blocks(e, group, tokens)
    held = window + e.limits[0].most_under_way
    if not e.groups[group].chunked:
        held += size - 1
    most: int = min(_blocks(e, group, tokens), -(-held // size))
    return most


@compiled
def _column(e: EngineArrays, group: int) -> int:
    """Where the group's places begin in a slot's row."""
    column: int = group * (e.blocks.shape[1] // len(e.groups))
    return column

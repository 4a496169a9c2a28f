"""What the compiled engine holds, as arrays of records: the fields of the readable engine's objects, under the same names.

NONE stands for no block, no sequence, no row. An API server's numbers are places in `order`.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulators.native.latency.step_law import WORK

NONE = -1
DONE, WAITS, FULL, LIVELOCK = range(4)  # why the engine stopped: all is finished; nothing more before `until`; a log is full; see engine.py

# Sequence, and of its tokens since the last gap: the step that made the first (run_start) and their number (run_length)
SEQUENCE = np.dtype(
    [
        ("arrival", np.float64),  # before another's end makes it due: how long it takes from its client to the station
        ("due", np.float64),  # -inf: it was known beforehand, or is not due yet
        ("reached", np.float64),  # NaN: not yet
        ("scheduled", np.float64),  # NaN: not yet
        ("index", np.int64),  # its place in the trace
        ("shared", np.int64),  # where its shared keys begin in Engine.shared_keys
        ("last", np.int64),  # number of the step it was last part of
        ("run_start", np.int64),
        ("run_length", np.int32),
        ("shared_count", np.int32),
        ("total", np.int32),
        ("computed", np.int32),
        ("promised", np.int32),
        ("end", np.int32),
        ("room", np.int32),
        ("named", np.int32),
        ("next_name", np.int32),
        ("held", np.int32),  # how many blocks it has: blocks[slot, :held]
        ("slot", np.int32),  # NONE: not running
        ("cached", np.int32),  # NONE: not yet admitted
        ("preemptions", np.int32),
        ("server", np.int32),
        ("priority", np.int32),  # lower goes first
        ("under_way", np.int32),
        ("prefilling", np.int32),  # 1: its last step left known tokens to be computed
        ("drafts", np.int32),
        ("verified", np.int64),  # place in Engine.accepted of its next verification
    ],
    align=True,
)
# An API server, and how many tokens of the step that has just ended are its own. next, given: places in `order`
SERVER = np.dtype(
    [("free", np.float64), ("busy", np.float64), ("next", np.int64), ("given", np.int64), ("tokens", np.int64)],
    align=True,
)
# Station, as numbers
COSTS = np.dtype([(name, np.float64) for name in ("request", "prompt_token", "step", "token", "hand_over")], align=True)
# A KV block. One that can be found is part of its key's chain (newer, older).
BLOCK = np.dtype(
    [
        ("key", np.int64),  # 0: nothing is known of its content
        ("references", np.int32),
        ("newer", np.int32),
        ("older", np.int32),
        ("listed", np.int32),  # whether it can be found under its key
    ],
    align=True,
)
# A free block's place in the free queue. Apart from BLOCK: who takes blocks goes from one to the next, and these fit a core's cache
LINK = np.dtype([("next", np.int32), ("previous", np.int32)], align=True)
# A row of the table of keys; it is free when the block is NONE
FOUND = np.dtype([("key", np.int64), ("oldest", np.int64)], align=True)
# Batch, of those under way: a ring, one row for each step that may be
BATCH = np.dtype([("end", np.float64), ("samplers", np.int32), ("sequences", np.int32)], align=True)
# Tokens that a sequence got from consecutive steps, one from each
RUN = np.dtype([("sequence", np.int64), ("start", np.int64), ("length", np.int64)], align=True)
# Limits, as numbers
LIMITS = np.dtype(
    [
        ("block_size", np.int32),
        ("max_num_seqs", np.int32),
        ("max_num_batched_tokens", np.int32),
        ("long_prefill_token_threshold", np.int32),
        ("watermark", np.int32),  # blocks
        ("in_flight", np.int32),
        ("livelock", np.int32),
        ("max_model_len", np.int32),
        ("most_under_way", np.int64),  # tokens
        ("num_speculative_tokens", np.int32),
        ("num_lookahead_tokens", np.int32),
        ("by_priority", np.bool_),  # order of the waiting queue; false: first come, first served
        ("drops_last_hit", np.bool_),
        ("chunked_prefill", np.bool_),
        ("prefix_caching", np.bool_),
        ("reserve_full_prompt", np.bool_),
    ],
    align=True,
)
# KVGroup. window: 0: all of a context, or a state
GROUP = np.dtype([("window", np.int32), ("chunked", np.bool_), ("state", np.bool_)], align=True)
# A closed loop. next: the sequence that the next end makes due; after: s from a token's leaving the station to the client; completed:
# rows filled of `completed`
LOOP = np.dtype([("next", np.int64), ("after", np.float64), ("completed", np.int64)], align=True)
# Of the pool
LEVEL = np.dtype([("free", np.int64)], align=True)
# The engine's state. steps: scheduled so far, so the number of the next one; counted: those of them that did something.
# known: sequences that are due, in `order`. logged, told, runs: rows filled of the logs `works`, `ends` and `runs`.
CLOCK = np.dtype(
    [
        ("now", np.float64),
        ("device_free", np.float64),
        ("known", np.int64),
        ("steps", np.int64),
        ("counted", np.int64),
        ("finished", np.int64),
        ("preemptions", np.int64),
        ("fruitless", np.int64),
        ("waiting", np.int64),  # sequences in the waiting queue, a ring that begins at `head`
        ("head", np.int64),
        ("running", np.int64),
        ("slots", np.int64),  # free ones: free_slots[:slots]
        ("completed", np.int64),  # 1: a sequence has become complete since the last step was scheduled
        ("peak", np.int64),
        ("logged", np.int64),
        ("told", np.int64),
        ("runs", np.int64),
    ],
    align=True,
)

Array = NDArray[Any]


class BlockArrays(NamedTuple):
    """The KV cache's blocks."""

    blocks: Array  # BLOCK
    links: Array  # LINK, of each block; one more, both ends of the free queue
    found: Array  # FOUND: hash table with open addressing
    level: Array  # LEVEL, one row


class EngineArrays(NamedTuple):
    """One engine. Who lets it go on empties the logs `ends`, `works` and `runs`, and sets `told`, `logged` and `runs` of the clock to 0."""

    clock: Array  # CLOCK, one row
    limits: Array  # LIMITS, one row
    sequences: Array  # SEQUENCE
    order: Array  # int64: sequences in the order in which they reach the station
    loop: Array  # LOOP, one row
    completed: Array  # int64: sequences that completed in the step that has ended
    servers: Array  # SERVER: the API servers before the engine
    costs: Array  # COSTS, one row
    shared_keys: Array  # int64: keys of blocks that prompts share
    waiting: Array  # int64 ring: sequences
    running: Array  # int64: sequences, in the order of admission
    free_slots: Array  # int64: rows of `blocks` that nobody has
    blocks: Array  # int32 (slot, place): the blocks of running sequences, of one group after the other
    groups: Array  # GROUP; empty: all layers are in one, with attention to all of a context
    passed: Array  # int32 (slot, group): how many of a group's first blocks are given back
    pool: BlockArrays  # the KV cache's blocks
    batches: Array  # BATCH: steps under way
    samplers: Array  # int64 (row of batches, place): sequences that get a token
    places: Array  # int32, alike: places computed behind the known tokens of each of them
    drafts: Array  # int32, alike: how many of these hold a draft
    accepted: Array  # int16: drafts that each verification accepts, of one sequence after the other
    scheduled: Array  # int64 (row of batches, place): sequences of the step
    tokens: Array  # int64, alike: new tokens of each of those
    linear: Array  # float64: of the StepLaw
    pieces: Array  # float64: of the StepLaw, a row each
    prompt_pieces: Array  # float64: the same, of steps that compute prompts
    floor: Array  # float64: of the StepLaw
    terms: Array  # float64: of the StepLaw, two rows each
    reach: Array  # int64, one: of the StepLaw, 0 where attention has no windows
    ends: Array  # log, float64 (step, 1 + server): when each step ended, and when each server had sent its tokens, if it has any
    works: Array  # log, float64 (step, part of WORK): what each step had to do; 0 sequences: it did nothing
    runs: Array  # log, RUN: stretches of steps in which a sequence got a token at each end


def no_work(rows: int) -> Array:
    """Rows for the work of so many steps, all zero."""
    return np.zeros((rows, len(WORK)))

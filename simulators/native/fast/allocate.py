"""The arrays of a new engine, before its first step."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulators.native import engine as readable
from simulators.native.fast.records import (
    BATCH,
    BLOCK,
    CLOCK,
    COSTS,
    FOUND,
    GROUP,
    LEVEL,
    LIMITS,
    LINK,
    LOOP,
    NONE,
    RUN,
    SEQUENCE,
    SERVER,
    Array,
    BlockArrays,
    EngineArrays,
    no_work,
)
from simulators.native.frontend.station import Station
from simulators.native.latency.step_law import StepLaw
from simulators.native.scheduling.scheduler import Limits
from simulators.native.served import NO_STATION

LOGGED = 1 << 14  # steps, and runs of tokens, that the logs hold before they must be emptied


@dataclass(frozen=True, slots=True, kw_only=True)
class Looped:
    """A closed loop: when each slot takes its first sequence, s, ascending; and s from a token's leaving the station to the client."""

    first: NDArray[np.float64]
    after: float


def new_engine(
    sequences: Array,
    shared_keys: NDArray[np.int64],
    limits: Limits,
    law: StepLaw,
    station: Station = NO_STATION,
    *,
    looped: Looped | None = None,
) -> EngineArrays:
    """An engine before its first step. sequences: made by `new_sequences`, in the order in which they reach the station.

    looped: of a closed loop, whose sequences are in the order in which they become due; each has as its arrival the time of its way to the
    station.
    """
    slots = max(1, min(limits.max_num_seqs, len(sequences)))
    longest = int(sequences["end"].max(initial=0)) + limits.in_flight + limits.beyond
    most = 1 + limits.speculation.num_speculative_tokens  # tokens that a step brings a sequence
    clock = np.zeros(1, CLOCK)
    known = len(sequences) if looped is None else len(looped.first)
    clock["known"], clock["slots"] = known, slots
    order = np.arange(len(sequences)) if looped is None else _order(sequences, looped.first)
    return EngineArrays(
        clock=clock,
        limits=_limits(limits),
        sequences=sequences,
        order=order,
        loop=np.array([(known, 0.0 if looped is None else looped.after, 0)], LOOP),
        completed=np.zeros(slots, np.int64),
        servers=_servers(sequences, order, station.servers),
        costs=np.array([tuple(getattr(station, name) for name in COSTS.names or ())], COSTS),
        shared_keys=shared_keys,
        waiting=np.zeros(len(sequences) + 1, np.int64),
        running=np.zeros(slots, np.int64),
        free_slots=np.arange(slots)[::-1].copy(),
        blocks=np.zeros((slots, (-(-longest // limits.block_size) + 1) * max(1, len(limits.kv_groups))), np.int32),
        groups=np.array([(g.window or 0, g.chunked, g.state) for g in limits.kv_groups], GROUP),
        passed=np.zeros((slots, max(1, len(limits.kv_groups))), np.int32),
        pool=_pool(limits.kv_blocks),
        batches=np.zeros(limits.in_flight, BATCH),
        samplers=np.zeros((limits.in_flight, slots), np.int64),
        places=np.zeros((limits.in_flight, slots), np.int32),
        drafts=np.zeros((limits.in_flight, slots), np.int32),
        accepted=_accepted(sequences, limits),
        scheduled=np.zeros((limits.in_flight, slots), np.int64),
        tokens=np.zeros((limits.in_flight, slots), np.int64),
        linear=np.array(law.linear),
        pieces=np.array(law.pieces),
        prompt_pieces=np.array(law.pieces if law.prompt_pieces is None else law.prompt_pieces),
        floor=np.array(law.floor),
        terms=np.array(law.terms).reshape(-1, 2, len(law.linear)),
        reach=np.array([int(law.reach or 0)]),
        ends=np.zeros((LOGGED + limits.in_flight, 1 + station.servers)),  # steps under way when it was emptied come on top
        works=no_work(LOGGED),
        runs=np.zeros(LOGGED + 2 * most * slots, RUN),
    )


def new_sequences(
    arrival: NDArray[np.float64],
    prompt: NDArray[np.int64],
    output: NDArray[np.int64],
    index: NDArray[np.int64] | None = None,
    *,
    priority: NDArray[np.int64] | None = None,
) -> Array:
    """Sequences of these lengths, tokens; nobody shares their keys. arrival: s at which each is ready, ascending. index: the place of each
    in the trace; None: they are in its order. priority: lower goes first, where the limits' policy is by priority.
    """
    made = np.zeros(len(arrival), SEQUENCE)
    made["index"] = np.arange(len(arrival)) if index is None else index
    made["arrival"], made["total"], made["end"] = arrival, prompt, prompt + output
    made["due"] = -np.inf
    if priority is not None:
        made["priority"] = priority
    for name in ("reached", "scheduled"):
        made[name] = np.nan
    for name in ("last", "slot", "cached", "run_start"):
        made[name] = NONE
    return made


def _order(sequences: Array, first: NDArray[np.float64]) -> NDArray[np.int64]:
    """The first sequences are due at these times, s: the order in which they reach the station, and all others behind them."""
    number = len(first)
    sequences["due"][:number] = first
    sequences["arrival"][:number] += first
    by_arrival = np.argsort(sequences["arrival"][:number], kind="stable")
    return np.concatenate([by_arrival, np.arange(number, len(sequences))])


def _accepted(sequences: Array, limits: Limits) -> Array:
    """What each sequence's verifications accept, as many as it has output tokens; each sequence is told where its own begin."""
    if not limits.speculation.num_speculative_tokens:
        return np.zeros(0, np.int16)
    count = sequences["end"].astype(np.int64) - sequences["total"]
    sequences["verified"] = np.cumsum(count) - count
    return limits.speculation.table(sequences["index"], count)


def _servers(sequences: Array, order: NDArray[np.int64], servers: int) -> Array:
    """Idle servers; each sequence is told which of them it passes, as far as that is known."""
    sequences["server"][order] = np.arange(len(sequences)) % servers
    made = np.zeros(servers, SERVER)
    made["free"] = -np.inf
    made["next"] = made["given"] = np.arange(servers)
    return made


def _limits(limits: Limits) -> Array:
    made = np.zeros(1, LIMITS)
    for name in LIMITS.names or ():
        for told in (limits, limits.speculation):
            if hasattr(told, name):
                made[name] = getattr(told, name)
    made["watermark"] = int(limits.watermark * (limits.kv_blocks + 1))  # vLLM counts its null block
    made["livelock"] = readable.LIVELOCK
    made["by_priority"] = limits.policy == "priority"
    return made


def _pool(size: int) -> BlockArrays:
    """The blocks, all free, in a ring with block number `size` as its two ends, and a table for twice as many keys."""
    blocks, links = np.zeros(size, BLOCK), np.zeros(size + 1, LINK)
    links["next"][:-1], links["previous"][1:] = np.arange(1, size + 1), np.arange(size)
    links["previous"][0] = size
    blocks["newer"] = blocks["older"] = NONE
    found = np.zeros(1 << (2 * size).bit_length(), FOUND)
    found["oldest"] = NONE
    level = np.zeros(1, LEVEL)
    level["free"] = size
    return BlockArrays(blocks=blocks, links=links, found=found, level=level)

"""The arrays of a new engine, before its first step."""

import numpy as np
from numpy.typing import NDArray

from simulators.native import engine as readable
from simulators.native.fast.records import (
    BATCH,
    BLOCK,
    CLOCK,
    COSTS,
    FOUND,
    LEVEL,
    LIMITS,
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


def new_engine(
    sequences: Array, shared_keys: NDArray[np.int64], limits: Limits, law: StepLaw, station: Station = NO_STATION
) -> EngineArrays:
    """An engine before its first step. sequences: made by `new_sequences`, in the order in which they reach the station."""
    slots = max(1, min(limits.max_num_seqs, len(sequences)))
    longest = int(sequences["end"].max(initial=0)) + limits.in_flight
    clock = np.zeros(1, CLOCK)
    clock["known"], clock["slots"] = len(sequences), slots
    return EngineArrays(
        clock=clock,
        limits=_limits(limits),
        sequences=sequences,
        servers=_servers(sequences, station.servers),
        costs=np.array([tuple(getattr(station, name) for name in COSTS.names or ())], COSTS),
        shared_keys=shared_keys,
        waiting=np.zeros(len(sequences) + 1, np.int64),
        running=np.zeros(slots, np.int64),
        free_slots=np.arange(slots)[::-1].copy(),
        blocks=np.zeros((slots, -(-longest // limits.block_size) + 1), np.int32),
        pool=_pool(limits.kv_blocks),
        batches=np.zeros(limits.in_flight, BATCH),
        samplers=np.zeros((limits.in_flight, slots), np.int64),
        scheduled=np.zeros(slots, np.int64),
        tokens=np.zeros(slots, np.int64),
        linear=np.array(law.linear),
        pieces=np.array(law.pieces),
        prompt_pieces=np.array(law.pieces if law.prompt_pieces is None else law.prompt_pieces),
        floor=np.array(law.floor),
        terms=np.array(law.terms).reshape(-1, 2, len(law.linear)),
        reach=np.array([int(law.reach or 0)]),
        ends=np.zeros((LOGGED + limits.in_flight, 1 + station.servers)),  # steps under way when it was emptied come on top
        works=no_work(LOGGED),
        runs=np.zeros(LOGGED + 2 * slots, RUN),
    )


def new_sequences(arrival: NDArray[np.float64], prompt: NDArray[np.int64], output: NDArray[np.int64]) -> Array:
    """Sequences of these lengths, tokens; nobody shares their keys. arrival: s at which each is ready, ascending."""
    made = np.zeros(len(arrival), SEQUENCE)
    made["arrival"], made["total"], made["end"] = arrival, prompt, prompt + output
    for name in ("reached", "scheduled"):
        made[name] = np.nan
    for name in ("last", "slot", "cached", "run_start"):
        made[name] = NONE
    return made


def _servers(sequences: Array, servers: int) -> Array:
    """Idle servers; each sequence is told which of them it passes."""
    sequences["server"] = np.arange(len(sequences)) % servers
    made = np.zeros(servers, SERVER)
    made["free"] = -np.inf
    made["next"] = made["given"] = np.arange(servers)
    return made


def _limits(limits: Limits) -> Array:
    made = np.zeros(1, LIMITS)
    for name in LIMITS.names or ():
        if hasattr(limits, name):
            made[name] = getattr(limits, name)
    made["watermark"] = int(limits.watermark * (limits.kv_blocks + 1))  # vLLM counts its null block
    made["livelock"] = readable.LIVELOCK
    return made


def _pool(size: int) -> BlockArrays:
    """The blocks, all free, in a ring with block number `size` as its two ends, and a table for twice as many keys."""
    blocks = np.zeros(size + 1, BLOCK)
    blocks["next"] = np.roll(np.arange(size + 1), -1)
    blocks["previous"] = np.roll(np.arange(size + 1), 1)
    blocks["newer"] = blocks["older"] = NONE
    found = np.zeros(1 << (2 * size).bit_length(), FOUND)
    found["oldest"] = NONE
    level = np.zeros(1, LEVEL)
    level["free"] = size
    return BlockArrays(blocks=blocks, found=found, level=level)

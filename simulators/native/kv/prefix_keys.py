"""Prefix-cache keys: from the blocks that a trace's prompts share to one key per KV block of the engine."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from simulators.native.sequence import Sequence
from workloads.trace import Trace

SPAN = 1 << 32  # keys of one owner: more than a sequence has blocks
NONE: NDArray[np.int64] = np.empty(0, np.int64)


def make_sequences(trace: Trace, *, block_size: int, delay: float = 0.0) -> Iterator[Sequence]:
    """The trace's requests as sequences, in its order; each reaches the scheduler `delay` seconds after its arrival.

    Two sequences have equal keys for their block i exactly when their first (i + 1) * block_size tokens are the same by the trace:
    within the prompts' common leading blocks. No other sequence has what comes after them (the rest of the prompt, the output).
    """
    for index, (request, keys) in enumerate(zip(trace, shared_keys(trace, block_size), strict=True)):
        yield Sequence(
            index=index,
            arrival=request.arrival + delay,
            prompt=request.input_tokens,
            output=request.output_tokens,
            shared_keys=keys.tolist(),
            own_key=-(index + 1) * SPAN,
        )


def shared_keys(trace: Trace, block_size: int) -> Iterator[NDArray[np.int64]]:
    """For each request, the keys of the full blocks that other prompts may share, from its first block on; keys are above 0."""
    owners: dict[tuple[int, int], int] = {}  # (owner of the prefix before, trace block) -> owner of the longer prefix; 0 is the empty one
    for request in trace:
        if not request.blocks or trace.block_size is None:
            yield NONE
            continue
        prefixes, owner = [], 0
        for block in request.blocks:
            owner = owners.setdefault((owner, block), len(owners) + 1)
            prefixes.append(owner)
        shared_tokens = min(len(prefixes) * trace.block_size, request.input_tokens)
        places = np.arange(shared_tokens // block_size)
        last_tokens = (places + 1) * block_size - 1
        yield np.array(prefixes)[last_tokens // trace.block_size] * SPAN + places

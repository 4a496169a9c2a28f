"""Prefix-cache keys: from the blocks that a trace's prompts share to one key per KV block of the engine."""

from collections.abc import Iterator

from simulators.native.sequence import Sequence
from workloads.trace import Request, Trace

SPAN = 1 << 32  # keys of one owner: more than a sequence has blocks


def make_sequences(trace: Trace, *, block_size: int, delay: float = 0.0) -> Iterator[Sequence]:
    """The trace's requests as sequences, in its order; each reaches the scheduler `delay` seconds after its arrival.

    Two sequences have equal keys for their block i exactly when their first (i + 1) * block_size tokens are the same by the trace:
    within the prompts' common leading blocks. What comes after (the rest of the prompt, the output) is nobody else's.
    """
    owners: dict[tuple[int, int], int] = {}  # (owner of the prefix before, trace block) -> owner of the longer prefix; 0 is the empty one
    for index, request in enumerate(trace):
        yield Sequence(
            index=index,
            arrival=request.arrival + delay,
            prompt=request.input_tokens,
            output=request.output_tokens,
            shared_keys=_shared_keys(request, trace.block_size, block_size, owners),
            own_key=-(index + 1) * SPAN,
        )


def _shared_keys(request: Request, trace_block: int | None, block_size: int, owners: dict[tuple[int, int], int]) -> tuple[int, ...]:
    if not request.blocks or trace_block is None:
        return ()
    prefixes, owner = [], 0
    for block in request.blocks:
        owner = owners.setdefault((owner, block), len(owners) + 1)
        prefixes.append(owner)
    shared_tokens = min(len(prefixes) * trace_block, request.input_tokens)
    ends = range(block_size, shared_tokens + 1, block_size)
    return tuple(prefixes[(end - 1) // trace_block] * SPAN + i for i, end in enumerate(ends))

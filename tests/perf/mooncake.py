"""The Mooncake conversation trace and a prefix cache of any size."""

import os
from pathlib import Path

import pytest

from simulators.native.scheduling.scheduler import Limits
from simulators.native.serve import serve
from simulators.native.served import Frontend
from tests.simulators.native.cases import Linear
from workloads.sources import Mooncake
from workloads.trace import Request, Trace

BLOCK = 512  # tokens


def hit_rates(blocks: int) -> tuple[float, float]:
    """(share of the trace's blocks that hit a cache of so many blocks, share that could: an earlier request had the same whole ones).

    One request after another, so that whatever was computed is there; outputs of one token.
    """
    path = Path(os.environ.get("PLUMBLINE_DATA", "../shared/data")) / "traces" / "mooncake_conversation.jsonl"
    if not path.is_file():
        pytest.skip(f"{path} is not here (PLUMBLINE_DATA names the folder)")
    rows = [r for r in Mooncake(path=str(path), block_size=BLOCK).rows() if r.input_tokens]
    made = tuple(
        Request(request_id=i, arrival=float(i), input_tokens=r.input_tokens, output_tokens=1, blocks=tuple(r.blocks))
        for i, r in enumerate(rows)
    )
    longest = max(r.input_tokens for r in made) + 1
    limits = Limits(
        kv_blocks=max(blocks, -(-longest // BLOCK)), block_size=BLOCK, max_num_seqs=1, max_num_batched_tokens=longest, max_model_len=longest
    )
    trace = Trace(name="mooncake", requests=made, block_size=BLOCK)
    records = serve(trace, limits, Linear(fixed=0.001), frontend=Frontend()).records
    seen: set[tuple[int, ...]] = set()
    blocks_asked = could = 0
    for request in made:
        prefixes = [request.blocks[: i + 1] for i in range(request.input_tokens // BLOCK)]
        usable = prefixes[: (request.input_tokens - 1) // BLOCK]  # the last token is computed in any case
        blocks_asked += len(request.blocks)
        could += next((i for i, p in enumerate(usable) if p not in seen), len(usable))
        seen.update(prefixes)
    return sum(r.cached_tokens or 0 for r in records) / BLOCK / blocks_asked, could / blocks_asked

"""A request's prompt as token ids: two prompts share exactly the leading blocks that the trace says they share.

Each prompt is a path in a tree: from the root through its blocks, then its own tail. Two paths that part at a node must differ in their
next token, or a prefix cache would hit by accident. So siblings are numbered, and a segment begins with its number, written in tokens. The
other tokens are a hash of (seed, block id) or (seed, request id), and of the position.
"""

import numpy as np
from numpy.typing import NDArray

from workloads.trace import Request, Trace

RESERVED = 16  # the lowest ids are left out where a tokenizer does not say which are special: most keep them there
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MASK = (1 << 64) - 1


def token_ids(trace: Trace, *, vocab_size: int, seed: int, first_id: int = RESERVED) -> list[list[int]]:
    """One prompt per request, in the trace's order, of ids in [first_id, vocab_size).

    The common prefix of two prompts is exactly their common leading blocks (cut to the shorter prompt), token for token, as long as
    at most n = vocab_size - first_id different segments follow one prefix; of more, some share their first token (their number's logarithm
    to the base n in tokens at the most), for there are no more tokens to tell them apart by. The same trace, vocabulary and seed give the
    same prompts on every machine. Raises ValueError for a vocabulary of fewer than 2 usable ids.
    """
    usable = vocab_size - first_id
    if usable < 2:
        raise ValueError(f"vocab_size must be at least {first_id + 2} to tell prompts apart, got {vocab_size}")
    order = np.random.default_rng([seed & MASK, vocab_size]).permutation(usable)
    paths, most_siblings = _paths(trace)
    digits = 1
    while usable**digits < most_siblings:
        digits += 1
    each = zip(trace, paths, strict=True)
    return [(first_id + _prompt(r, trace.block_size or 1, path, order, digits, seed)).tolist() for r, path in each]


def _paths(trace: Trace) -> tuple[list[list[int]], int]:
    """Per request the number of each of its segments (blocks, then the tail) among its siblings; and the most siblings anywhere."""
    children: dict[tuple[int, int], tuple[int, int]] = {}  # (node, block id) -> (node below, its number among its siblings)
    counts = [0]  # siblings below each node; node 0 is the root
    paths = []
    for request in trace:
        node, path = 0, []
        for block in request.blocks:
            if (node, block) not in children:
                children[node, block] = (len(counts), counts[node])
                counts[node] += 1
                counts.append(0)
            node, sibling = children[node, block]
            path.append(sibling)
        if _tail_tokens(request, trace.block_size) > 0:
            path.append(counts[node])
            counts[node] += 1
        paths.append(path)
    return paths, max(counts)


def _tail_tokens(request: Request, block_size: int | None) -> int:
    return request.input_tokens - len(request.blocks) * (block_size or 0)


def _prompt(request: Request, block_size: int, path: list[int], order: NDArray[np.int64], digits: int, seed: int) -> NDArray[np.int64]:
    n, segments = request.input_tokens, len(path)
    starts = np.arange(segments) * block_size
    segment = np.minimum(np.arange(n) // block_size, segments - 1)  # the tail is the last one, as long as it may be
    noise = _hash(_keys(request, seed)[segment] + np.arange(n, dtype=np.uint64) * GOLDEN)
    tokens = (noise % np.uint64(len(order))).astype(np.int64)
    numbers = np.array(path)
    for digit in range(digits):
        room = np.append(starts[1:], n) > starts + digit
        tokens[starts[room] + digit] = order[numbers[room] % len(order)]
        numbers //= len(order)
    return tokens


def _keys(request: Request, seed: int) -> NDArray[np.uint64]:
    """A key per segment, from the seed and the block's id (even) or the request's (odd)."""
    ids = [2 * block for block in request.blocks] + [2 * request.request_id + 1]
    return _hash(_hash(np.array([seed & MASK], dtype=np.uint64)) + np.array([i & MASK for i in ids], dtype=np.uint64))


def _hash(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's output function (Steele, Lea, Flood 2014): a bijection of 64 bits that looks random, the same on every machine."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))

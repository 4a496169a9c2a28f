"""Windows: what attention that looks back so far and no further has to do of a batch."""

from collections.abc import Sequence

from simulators.native.sequence import NO_WINDOWS, Batch


def windowed_pairs(tokens: int, context: int, most: int) -> float:
    """Query-key pairs of `tokens` new tokens on top of `context`: each attends to itself and to at most `most` tokens before it."""
    growing = max(0, min(tokens, most - context))  # tokens that still see all that is before them
    return growing * (context + 0.5 * (growing + 1)) + (tokens - growing) * (most + 1.0)


def windowed_work(batch: Batch, reach: int) -> Sequence[float]:
    """Batch.work with its columns of windows filled. reach: tokens that a query attends to at most, itself among them.

    A batch that says its sums only is taken to be of decodes that are alike, and of one prompt.
    """
    most = reach - 1
    read = prefill = 0
    pairs = 0.0
    if batch.tokens:
        for sequence, tokens in zip(batch.sequences, batch.tokens, strict=True):
            context = sequence.computed - tokens
            if tokens == 1 and context:
                read += min(context, most)
            else:
                prefill += min(context, most)
                pairs += windowed_pairs(tokens, context, most)
    else:
        read = min(batch.decode_context, batch.decodes * most)
        prefill = min(batch.prefill_context, most)
        pairs = windowed_pairs(batch.prefill_tokens, batch.prefill_context, most)
    return (*batch.work[: -len(NO_WINDOWS)], read, read if batch.prefill_tokens else 0, prefill, pairs)

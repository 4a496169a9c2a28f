"""Caches that keep, or read, only a part of the context: what attention then has to read, whatever the scheduler counts."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from simulators.native.latency.step_time import StepTime
from simulators.native.latency.windows import windowed_pairs
from simulators.native.latency.wrappers.wrapped import Wrapped
from simulators.native.sequence import Batch


class Attended(Wrapped):
    """A StepTime: that of another one, for batches in which no token attends to more than `most` tokens before it.

    most: the window and its sinks (StreamingLLM, arXiv 2309.17453), or the budget of heavy hitters (H2O, arXiv 2306.14048). share: of the
    context that is left, the part that a decode step reads (InfiniGen, OSDI 2024, fetches what its speculation finds to matter).
    """

    def __init__(self, inner: StepTime, *, most: int | None = None, share: float = 1.0) -> None:
        super().__init__(inner)
        self.most, self.share = most, share

    def seconds(self, batch: Batch) -> float:
        """See StepTime."""
        return self.inner.seconds(self.attended(batch))

    def describe(self) -> Mapping[str, Any]:
        """See StepTime."""
        return {**self.inner.describe(), "attended_tokens": self.most, "attended_share": self.share}

    def attended(self, batch: Batch) -> Batch:
        """The batch with the contexts that its attention really reads."""
        read = dataclasses.replace(batch, prefill_tokens=0, prefill_context=0, prefill_pairs=0.0, decodes=0, decode_context=0)
        for sequence, tokens in zip(batch.sequences, batch.tokens, strict=True):
            context = sequence.computed - tokens
            if tokens == 1 and context:
                read.decodes += 1
                read.decode_context += round(self.share * self._kept(context))
            else:
                read.prefill_tokens += tokens
                read.prefill_context += self._kept(context)
                read.prefill_pairs += self._pairs(tokens, context)
        return read

    def _kept(self, context: int) -> int:
        return context if self.most is None else min(context, self.most)

    def _pairs(self, tokens: int, context: int) -> float:
        """Query-key pairs of `tokens` new tokens on top of `context`: token i attends to itself and at most `most` before it."""
        if self.most is None:
            return tokens * (context + 0.5 * (tokens + 1))
        return windowed_pairs(tokens, context, self.most)

"""Chunks of a prompt that were computed before, anywhere in another prompt (CacheBlend, EuroSys 2025): only a part is computed anew."""

from collections.abc import Mapping
from typing import Any

from simulators.native.latency.step_time import StepTime
from simulators.native.latency.wrappers.wrapped import Wrapped
from simulators.native.sequence import Batch
from workloads.trace import Trace


def reusable_shares(trace: Trace) -> list[float]:
    """For each request, the share of its prompt in blocks that an earlier request of the trace had, at whatever place."""
    seen: set[int] = set()
    shares = []
    for request in trace:
        known = sum(block in seen for block in request.blocks)
        shares.append(min(1.0, known * (trace.block_size or 0) / request.input_tokens))
        seen.update(request.blocks)
    return shares


class Reuse(Wrapped):
    """A StepTime: that of another one, for prompts of which a share was computed before. Of that share only `recomputed` is computed anew
    (the paper's ratio is 0.15).

    shares: of each sequence's prompt, by its index (`reusable_shares`). load_token: seconds to load a token's KV, hidden behind the
    computing of other layers while that lasts (section 5.1 there).
    """

    def __init__(self, inner: StepTime, shares: list[float], *, recomputed: float, load_token: float) -> None:
        super().__init__(inner)
        self.shares, self.recomputed, self.load_token = shares, recomputed, load_token

    def seconds(self, batch: Batch) -> float:
        """See StepTime."""
        less = Batch(sequences=batch.sequences, tokens=batch.tokens)
        loaded = 0.0
        for sequence, tokens in zip(batch.sequences, batch.tokens, strict=True):
            context = sequence.computed - tokens
            if sequence.computed > sequence.prompt or (tokens == 1 and context):
                less.count(tokens, context)
                continue
            known = self.shares[sequence.index] * tokens
            loaded += known
            less.count(max(1, round(tokens - known * (1 - self.recomputed))), context)
        return max(self.inner.seconds(less), loaded * self.load_token)

    def describe(self) -> Mapping[str, Any]:
        """See StepTime."""
        return {**self.inner.describe(), "reuse": {"recomputed": self.recomputed, "load_s_per_token": self.load_token}}

"""Step times that follow a known law, as a profile: every simulator is calibrated from it, so that what comes out is known beforehand."""

from collections.abc import Iterator
from dataclasses import dataclass

from results.profile import SAMPLE_COLUMNS, Profile
from results.record import EngineLimits

REPEATS = 3  # of each point of the profile, all alike
HELD_OUT = {("prefill", 128), ("prefill", 384), ("decode", 4)}  # kind and size of points that no fit sees


@dataclass(frozen=True, kw_only=True)
class KnownLaw:
    """Seconds of a step: a fixed cost, and costs per new prompt token, per decoded sequence, per new token and token that it attends to."""

    fixed: float = 2e-3
    token: float = 2e-5
    sequence: float = 1.5e-4
    attention: float = 1e-8
    frontend: float = 4e-3  # of a request, outside the steps

    def prefill(self, tokens: int, context: int = 0) -> float:
        """Seconds of a step with prompt tokens of one request only; context: tokens of it that are cached already."""
        return self.fixed + self.token * tokens + self.attention * tokens * (context + tokens / 2)

    def prompt(self, tokens: int, budget: int) -> float:
        """Seconds of a lone prompt that is cut to the token budget."""
        return sum(self.prefill(min(budget, tokens - done), done) for done in range(0, tokens, budget))

    def decode(self, batch: int, context: float) -> float:
        """Seconds of a step that decodes `batch` sequences with this mean context."""
        return self.fixed + self.sequence * batch + self.attention * batch * context

    def decodes(self, batch: int, prompt: int, tokens: int) -> float:
        """Seconds from the first to the last of `tokens` tokens of a batch whose prompts are all this long."""
        return sum(self.decode(batch, prompt + step) for step in range(1, tokens))

    def profile(self, limits: EngineLimits) -> Profile:
        """A profile that measured the law without noise."""
        import pandas as pd  # here: it takes long to import

        rows = [
            (kind, tokens, before, batch, context, time, repeat, kind == "mixed" or (kind, tokens or batch) in HELD_OUT)
            for kind, tokens, before, batch, context, time in self._points()
            for repeat in range(REPEATS)
        ]
        return Profile(
            profile_id="law",
            system="vllm",
            version=None,
            model={},
            hardware="law",
            limits=limits,
            samples=pd.DataFrame(rows, columns=list(SAMPLE_COLUMNS)),
            source="a known law of step times",
            started_at="2026-01-01T00:00:00+00:00",
            wall_s=0.0,
        )

    def _points(self) -> Iterator[tuple[str, int, int, int, float, float]]:
        """(kind, new_tokens, prefill_context, batch, context, seconds) of each point."""
        for tokens in (16, 32, 64, 128, 256, 384, 512, 1024):
            for before in (0, 512, 1536) if tokens in (64, 256, 512) else (0,):
                yield "prefill", tokens, before, 0, 0.0, self.prefill(tokens, before)
        for batch in (1, 2, 4, 8, 16, 32, 64):
            for context in (64.0, 512.0, 2048.0):
                yield "decode", 0, 0, batch, context, self.decode(batch, context)
        for tokens, batch in ((64, 4), (256, 8), (448, 32)):
            yield "mixed", tokens, 0, batch, 256.0, self.prefill(tokens) + self.decode(batch, 256.0) - self.fixed
        yield "frontend", 0, 0, 0, 0.0, self.frontend

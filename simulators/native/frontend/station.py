"""Station: what the API servers before an engine spend on each request and each streamed token."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """Seconds, all >= 0; servers: processes that share the requests, >= 1. The default costs nothing.

    A server is one Python process: first come, first served. It has two kinds of jobs. A request takes request + prompt_token * its
    prompt's tokens, from when it arrives, and reaches the scheduler hand_over later. A step of the engine takes step + token * the tokens
    that it brings for this server's requests, from hand_over after its end; its tokens are with their clients when the job is done.
    """

    request: float = 0.0  # s a request: HTTP, chat template, checks, and its end
    prompt_token: float = 0.0  # s a token of the prompt: reading it, tokenising
    step: float = 0.0  # s a step that brings tokens: the message from the engine, statistics
    token: float = 0.0  # s a streamed token, or the tokens of one verification together: detokenising, JSON, sending
    hand_over: float = 0.0  # s between the processes, one way; nobody is busy meanwhile
    servers: int = 1  # API servers; request i goes to number i modulo servers

    def __post_init__(self) -> None:
        for name in ("request", "prompt_token", "step", "token", "hand_over"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"front end: {name} must be >= 0 s, got {getattr(self, name)}")
        if self.servers < 1:
            raise ValueError(f"front end: servers must be >= 1, got {self.servers}")

    @property
    def after(self) -> float:
        """Seconds from the end of a step to its only token at the client, when nothing else is to be done."""
        return self.hand_over + self.step + self.token

    def idle(self, prompt: float) -> float:
        """Seconds that a request alone spends outside the engine until its first token."""
        return self.request + self.prompt_token * prompt + self.hand_over + self.after

    def scaled(self, factor: float) -> Self:
        """The same on a CPU that takes `factor` times as long."""
        return dataclasses.replace(
            self,
            request=factor * self.request,
            prompt_token=factor * self.prompt_token,
            step=factor * self.step,
            token=factor * self.token,
            hand_over=factor * self.hand_over,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StationUse:
    """What a station did to the requests of a trace that it served, and how busy it was."""

    before: float  # s, mean: from a request's readiness to the scheduler, waiting and hand-over included
    first_token: float  # s, mean: from the end of the step that made a first token to the client
    last_token: float  # s, mean: the same of the last token
    busy: float  # s: of all servers together
    requests: int  # served

    @classmethod
    def of_all(cls, parts: Sequence["StationUse"]) -> "StationUse | None":
        """Of several stations together; None: there are none."""
        total = sum(part.requests for part in parts)
        if not total:
            return None
        mean = {name: sum(getattr(p, name) * p.requests for p in parts) / total for name in ("before", "first_token", "last_token")}
        return cls(**mean, busy=sum(part.busy for part in parts), requests=total)

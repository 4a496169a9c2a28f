"""The probes of a profile: each aims at one point of the grid, fires shots, and returns what it saw, with nothing taken off yet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from harness.observations import Observation
from harness.shots import Gun, Shot
from harness.steps import FLANK, handover, mixed_step, period, together, token_times
from results.record import RequestRecord

SHOTS = 3  # requests of a front-end probe, one after another
TAIL = 16  # tokens that a front-end probe decodes, for its own period


class Probe(Protocol):
    """One point. It may learn from one run to the next (how long things take), never what the answer should be."""

    def run(self, gun: Gun) -> list[Observation]:
        """Probe the point once; [] when the engine did not get into the state that was asked for."""
        ...


@dataclass(frozen=True, kw_only=True)
class Frontend:
    """The fixed cost of a request outside the steps: TTFT of a step of one token, less what such a step takes.

    prompt: tokens; above 1 the prefix cache must hold all but the last of them, so the prompt is sent twice and the second time counts.
    """

    prompt: int

    def run(self, gun: Gun) -> list[Observation]:
        """Probe `SHOTS` times."""
        return [o for o in (self._shoot(gun) for _ in range(SHOTS)) if o is not None]

    def _shoot(self, gun: Gun) -> Observation | None:
        tokens = gun.fresh(1) if self.prompt == 1 else gun.pooled(0, self.prompt)
        if self.prompt > 1:
            gun.fire([Shot(prompt=tokens, output=1)])
        (record,) = gun.fire([Shot(prompt=tokens, output=TAIL)])
        step = period([token_times(record)])
        if step is None or record.first_token is None or record.sent is None or not _held(record, self.prompt - 1):
            return None
        return Observation(kind="frontend", new_tokens=self.prompt, seconds=record.first_token - record.sent - step)


@dataclass(frozen=True, kw_only=True)
class Prefill:
    """TTFT of a prompt of `new` tokens that were never sent before, behind `context` earlier ones, alone.

    cached: the earlier tokens are put into the prefix cache first, so that one step remains; else their steps are in the TTFT too.
    """

    new: int
    context: int = 0
    held_out: bool = False
    cached: bool = False

    def run(self, gun: Gun) -> list[Observation]:
        """Probe once; [] when the server says that its prefix cache does not hold what it should."""
        earlier = gun.pooled(0, self.context) if self.cached else gun.fresh(self.context)
        if self.cached:
            gun.fire([Shot(prompt=earlier, output=1)])
        (record,) = gun.fire([Shot(prompt=[*earlier, *gun.fresh(self.new)], output=2)])
        if record.first_token is None or record.sent is None or (self.cached and not _held(record, self.context)):
            return []
        return [
            Observation(
                kind="prefill",
                new_tokens=self.new,
                prefill_context=self.context,
                seconds=record.first_token - record.sent,
                held_out=self.held_out,
                cached=self.cached,
            )
        ]


def _held(record: RequestRecord, tokens: int) -> bool:
    """Whether so many prompt tokens came from the prefix cache; a server that does not tell is believed."""
    return record.cached_tokens is None or record.cached_tokens >= tokens


@dataclass(kw_only=True)
class Decode:
    """The step of `batch` sequences that decode together, their prompts of `prompt` tokens each.

    steps: wanted; room: most tokens that a sequence may generate. The sequences start one after another, so each generates `lead` tokens
    more than that; a lead that proves too short is doubled. `context` is where the first run found the stretch, and stands for all runs.
    """

    batch: int
    prompt: int
    steps: int
    room: int
    held_out: bool = False
    lead: int = 8
    context: int = 0
    started: float = 0.0

    def run(self, gun: Gun) -> list[Observation]:
        """Probe once; up to four attempts at a stretch that is long enough."""
        for _ in range(4):
            output = min(self.room, self.lead + self.steps)
            records = gun.fire([Shot(prompt=gun.pooled(i, self.prompt), output=output) for i in range(self.batch)])
            stretch = together(records)
            if min(len(t) for t in stretch) > self.steps // 2 or output == self.room:
                break
            self.lead *= 2
        seconds = period(stretch)
        if seconds is None:
            return []
        middle = float(np.mean([np.searchsorted(token_times(r), t.mean()) for r, t in zip(records, stretch, strict=True) if len(t)]))
        self.context = self.context or self.prompt + round(middle)
        self.started = max(r.first_token or 0.0 for r in records)
        return [
            Observation(
                kind="decode",
                batch=self.batch,
                context=self.context,
                seconds=seconds,
                held_out=self.held_out,
                handover=handover(stretch, seconds),
            )
        ]


@dataclass(kw_only=True)
class Mixed:
    """Steps that compute a prompt of n tokens (n in `prompts`, each injected alone) beside `batch` sequences that decode.

    The first run learns from a plain decode how long the sequences take to start and a step lasts, and from one prompt how long
    prompts take; the prompts are then sent so far apart that plain decode steps lie between them.
    """

    batch: int
    prompt: int
    prompts: Sequence[int]
    room: int
    held_out: frozenset[int] = frozenset()
    decode: Decode | None = None
    per_token: float = 0.0
    contexts: dict[int, int] = field(default_factory=dict)

    def run(self, gun: Gun) -> list[Observation]:
        """Probe once."""
        step, started = self._learn(gun)
        arrivals, at = [], 1.5 * started + FLANK * step
        for n in self.prompts:
            arrivals.append(at)
            at += (2 * FLANK + 4) * step + 1.5 * n * self.per_token
        output = min(self.room, math.ceil(1.2 * at / step))
        decoders = [Shot(prompt=gun.pooled(i, self.prompt), output=output) for i in range(self.batch)]
        injected = [Shot(prompt=gun.fresh(n), output=1, arrival=t) for n, t in zip(self.prompts, arrivals, strict=True)]
        records = gun.fire([*decoders, *injected])
        times = [token_times(r) for r in records[: self.batch]]
        ends = [r.first_token or math.inf for r in records[self.batch :]]
        seen = []
        for which, n in enumerate(self.prompts):
            seconds = mixed_step(times, ends, which)
            if seconds is not None:
                generated = round(float(np.mean([np.searchsorted(t, ends[which]) for t in times])))
                context = self.contexts.setdefault(n, self.prompt + generated)
                seen.append(
                    Observation(kind="mixed", new_tokens=n, batch=self.batch, context=context, seconds=seconds, held_out=n in self.held_out)
                )
        return seen

    def _learn(self, gun: Gun) -> tuple[float, float]:
        """Seconds of a plain decode step, and until all sequences have started."""
        if self.decode is None:
            longest = max(self.prompts)
            (record,) = gun.fire([Shot(prompt=gun.fresh(longest), output=1)])
            self.per_token = ((record.first_token or 0.0) - (record.sent or 0.0)) / longest
            self.decode = Decode(batch=self.batch, prompt=self.prompt, steps=2 * FLANK, room=self.room)
        plain = self.decode.run(gun)
        return (plain[0].seconds if plain else 0.1), self.decode.started

"""The probes of a profile: each sends requests for one point of the grid, or several that one launch can serve, and returns what it saw.

Nothing is taken off yet. Where the engine has a prefix cache, prompts are put into it first, so that all sequences start at about the same
time. They come from the sender's pool, so that the cache still holds them when the probe runs again; where it does not, that run puts them
back.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from harness.monitor.contention import Contention
from harness.probing.probe_requests import ProbeRequest, ProbeSender
from harness.probing.samples import Observation, Sighting
from harness.probing.token_gaps import FLANK, blocks, handover, mixed_step, period, stairs, together, token_times, usual_gap
from results.record import RequestRecord

REPEATS = 9  # requests of a front-end probe, one after another; these tell the smallest prefill, too
REFUSALS = 3  # prompts of each length that are to be refused
TAIL = 8  # tokens that a front-end probe decodes, for its own period
PREFILL_TOKENS = 512  # a prefill probe goes on until it has sent as many, but repeats at most
PREFILL_REPEATS = 5
SLACK = 3  # decode steps between two stretches: sequences that should end together do so within about as many


class Probe(Protocol):
    """What is probed in one go. It may learn from one run to the next (how long things take), never what the answer should be."""

    def run(self, sender: ProbeSender) -> list[Observation]:
        """Probe once; [] when the engine did not get into the state that was asked for."""
        ...


def look(number: int, probe: Probe, repeat: int, sender: ProbeSender) -> Sighting:
    """Run probe number `number` for the `repeat`-th time, and watch whether others take the engine's core meanwhile."""
    with Contention(sender.endpoint.core_pids) as contention:
        found = tuple(probe.run(sender))
    return Sighting(probe=number, repeat=repeat, observations=found, core_wait=contention.share)


@dataclass(frozen=True, kw_only=True)
class FrontendProbe:
    """The fixed cost of a request outside the steps: TTFT of a prompt of one token, less what its step takes.

    The TTFTs are those of the smallest prefill, too: both medians come from the same requests, so that noise cannot push them past each
    other.
    """

    def run(self, sender: ProbeSender) -> list[Observation]:
        """Probe several times."""
        return [o for _ in range(REPEATS) for o in self._once(sender)]

    def _once(self, sender: ProbeSender) -> list[Observation]:
        (record,) = sender.send([ProbeRequest(prompt=sender.fresh(1), output=TAIL)])
        step = period([token_times(record)])
        if step is None or record.first_token is None or record.sent is None:
            return []
        ttft = record.first_token - record.sent
        return [
            Observation(kind="frontend", new_tokens=1, seconds=ttft, step=step),
            Observation(kind="prefill", new_tokens=1, seconds=ttft),
        ]


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What a prompt's tokens cost outside the steps: how long it takes to refuse prompts that are too long, of the lengths in `prompts`.

    They are received, parsed and checked like any other, and no step is computed. (A prompt that the prefix cache holds does not tell: the
    step of its last token may still cost more the longer it is. SGLang's torch_native attention recomputes all of the prefix.)
    """

    prompts: Sequence[int]

    def run(self, sender: ProbeSender) -> list[Observation]:
        """Probe several times; [] when the server refuses none of them."""
        took = [(n, sender.refused(n)) for _ in range(REFUSALS) for n in self.prompts]
        return [Observation(kind="refusal", new_tokens=n, seconds=seconds) for n, seconds in took if seconds is not None]


@dataclass(frozen=True, kw_only=True)
class PrefillProbe:
    """TTFT of a prompt of `new` tokens that were never sent before, behind `context` earlier ones, alone.

    cached: the earlier tokens are put into the prefix cache first, so that one step remains; else their steps are in the TTFT too.
    """

    new: int
    context: int = 0
    held_out: bool = False
    cached: bool = False

    def run(self, sender: ProbeSender) -> list[Observation]:
        """Probe once, a short prompt several times; [] when the server says that its prefix cache does not hold what it should."""
        if self.cached:
            sender.put(1, self.context)
        sent = self.new if self.cached else self.new + self.context
        return [o for _ in range(max(1, min(PREFILL_REPEATS, PREFILL_TOKENS // sent))) for o in self._once(sender)]

    def _once(self, sender: ProbeSender) -> list[Observation]:
        earlier = sender.pooled(0, self.context) if self.cached else sender.fresh(self.context)
        (record,) = sender.send([ProbeRequest(prompt=[*earlier, *sender.fresh(self.new)], output=2)])
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
class DecodeProbe:
    """Steps of sequences that decode together, their prompts of `prompt` tokens each: one launch of the largest of `batches`, which
    steps down through the others, since the sequences have outputs of staggered lengths. The prompts are computed once for all batches.
    """

    batches: Sequence[int]  # sequences, descending
    prompt: int  # tokens of each
    steps: int  # wanted at each batch
    room: int  # most tokens that a sequence may generate
    cached: bool  # the engine has a prefix cache
    behind: float = 0.0  # decode steps that each further sequence starts later; 0 when cached
    held_out: frozenset[int] = frozenset()  # batches kept out of every fit
    lead: int = 12  # steps until all have started; one that proves too short is corrected
    contexts: dict[int, int] = field(default_factory=dict)  # where the first run found each batch's stretch; that stands for all runs

    def run(self, sender: ProbeSender) -> list[Observation]:
        """Probe once: several observations per batch. A first stretch that proves short makes one more attempt."""
        if self.cached:
            sender.put(self.batches[0], self.prompt)
        for _ in range(2):
            outputs = self._outputs()
            records = sender.send([ProbeRequest(prompt=sender.pooled(i, self.prompt), output=n) for i, n in enumerate(outputs)])
            short = self.steps - min(len(t) for t in together(records))
            if short < self.steps // 2 or max(outputs) == self.room:
                break
            self.lead += short + SLACK
        return [o for batch in self.batches for o in self._stretch(records, batch)]

    def _outputs(self) -> list[int]:
        """Tokens to generate: sequence i goes on until the batch has stepped down to the last one that holds it."""
        ends = []
        for i in range(self.batches[0]):
            stair = sum(i < batch for batch in self.batches)
            start = self.behind * i
            ends.append(max(2, min(self.room, math.ceil(self.lead + self.behind * self.batches[0] - start) + stair * (self.steps + SLACK))))
        return ends

    def _stretch(self, records: Sequence[RequestRecord], batch: int) -> list[Observation]:
        """What was seen while exactly the first `batch` sequences decoded."""
        stretch = stairs(records, batch)
        if not stretch or min(len(t) for t in stretch) < 3:
            return []
        whole = period(stretch)
        if whole is None:
            return []
        middle = np.mean([np.searchsorted(token_times(r), t.mean()) for r, t in zip(records[:batch], stretch, strict=True)])
        context = self.contexts.setdefault(batch, self.prompt + round(float(middle)))
        lag = handover(stretch, whole)
        return [
            Observation(kind="decode", batch=batch, context=context, seconds=s, held_out=batch in self.held_out, handover=lag)
            for s in blocks(stretch) or [whole]
        ]


@dataclass(kw_only=True)
class MixedProbe:
    """Steps that compute a prompt of n tokens (n in `prompts`, each injected alone) beside `batch` sequences that decode.

    One launch serves all n: the prompts are sent so far apart that plain decode steps lie between them. A launch without them tells how
    long the sequences take to start and a step lasts, and one prompt how long prompts take; later runs plan with what the last one saw.
    """

    batch: int  # sequences that decode
    prompt: int  # tokens of each
    prompts: Sequence[int]  # tokens of the injected ones
    room: int  # most tokens that a sequence may generate
    cached: bool  # the engine has a prefix cache
    held_out: frozenset[int] = frozenset()  # prompts kept out of every fit
    step: float = 0.0  # s of a plain decode step, as last seen; 0: not yet
    started: float = 0.0  # s until all sequences have started, as last seen
    per_token: float = 0.0  # s per token of an injected prompt, as last seen
    contexts: dict[int, int] = field(default_factory=dict)  # where the first run found each prompt's step; that stands for all runs

    def run(self, sender: ProbeSender) -> list[Observation]:
        """Probe once."""
        if self.cached:
            sender.put(self.batch, self.prompt)
        if not self.step:
            self._learn(sender)
        if not self.step:
            return []
        arrivals, at = [], 1.2 * self.started + FLANK * self.step
        for n in self.prompts:
            arrivals.append(at)
            at += (FLANK + SLACK) * self.step + 1.2 * n * self.per_token
        output = min(self.room, math.ceil(1.2 * (at - sum(self.prompts) * self.per_token) / self.step) + FLANK)
        decoders = [ProbeRequest(prompt=sender.pooled(i, self.prompt), output=output) for i in range(self.batch)]
        injected = [ProbeRequest(prompt=sender.fresh(n), output=1, arrival=t) for n, t in zip(self.prompts, arrivals, strict=True)]
        records = sender.send([*decoders, *injected])
        times = [token_times(r) for r in records[: self.batch]]
        ends = [r.first_token or math.inf for r in records[self.batch :]]
        self._note(records[: self.batch])
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

    def _learn(self, sender: ProbeSender) -> None:
        """Find out how long things take, for the plan only."""
        longest = max(self.prompts)
        (record,) = sender.send([ProbeRequest(prompt=sender.fresh(longest), output=1)])
        self.per_token = ((record.first_token or 0.0) - (record.sent or 0.0)) / longest
        output = min(self.room, 2 * FLANK)
        self._note(sender.send([ProbeRequest(prompt=sender.pooled(i, self.prompt), output=output) for i in range(self.batch)]))

    def _note(self, decoders: Sequence[RequestRecord]) -> None:
        self.started = max(r.first_token or 0.0 for r in decoders)
        self.step = usual_gap([token_times(r) for r in decoders])

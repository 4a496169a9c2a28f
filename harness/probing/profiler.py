"""Profiler: an engine's step times, found by probing it over HTTP and nothing else.

What separates a step from the front-end (HTTP, tokenising, queues, hand-over of the answer):
- the gaps between a stream's tokens hold no front-end, however late each token comes through: `token_gaps.py` turns them into the time
  of a decode step (b sequences that decode together), and of a mixed step (a prompt injected beside them);
- a prompt of one token costs the same step as decoding one token, so its TTFT less that stream's own period is the front-end. What each
  further token of a prompt costs there (parsing it takes time) is told by prompts that are too long: they are parsed and refused, and
  no step is computed. What is no front-end by that is a step's;
- a prefill of n tokens is the TTFT of a prompt never seen before, on an idle engine, less the front-end; beyond the engine's token
  budget it is several steps: the last one is had alone where a prefix cache can hold the rest, else as a difference of two TTFTs.
Under asynchronous scheduling a step's time is its period: what one more step adds to a stream.

What makes samples robust on a machine that others use too: one launch serves many points (a decoding batch that steps down, prompts
injected one after another beside one batch); all probes are run in turn, pass after pass, so that a burst of noise meets few samples of
any one point; and where the kernel tells that others had the engine's core during a run, it is left out as long as there are quieter ones.
How well the machine repeats itself is measured, too: `repeatability.py` times a few points at the beginning and at the end.
"""

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from harness.engine import Endpoint, EngineError
from harness.probing.probe_requests import ProbeRequest, ProbeSender
from harness.probing.probes import SLACK, DecodeProbe, FrontendProbe, MixedProbe, PrefillProbe, Probe, Refusal, look
from harness.probing.repeatability import fixed_points, repeatability, timed
from harness.probing.samples import FrontendCost, Sighting, diagnostics, quiet, samples
from harness.replay.client import Client
from results.profile import REPEATABILITY, Profile
from results.project.progress import Progress
from results.record import EngineLimits
from workloads.prompts import RESERVED

if TYPE_CHECKING:  # pandas takes long to import
    import pandas as pd

ATTEMPTS = 3  # at a probe that shows nothing, in the first pass
ROOM = 64  # tokens kept free behind a prompt for the decode steps of a probe
HOLE = 0.75  # of the longest prompt in one step: closer to it than that no length is added
TOO_LONG = (1.02, 3.0)  # lengths of prompts that the engine must refuse, of the longest that it takes
SOURCE = (
    "HTTP probes of an otherwise idle engine. frontend: TTFT of 1-token prompts less their streams' own period (medians); per prompt "
    "token, the slope of the time in which prompts that are too long are refused. prefill: TTFT of a never-seen prompt less the front-end; "
    "beyond max_num_batched_tokens its last chunk, the rest in the prefix cache (without one: a difference of TTFTs). decode: Theil-Sen "
    "slopes of the token times, each of a few steps, while a batch steps down. mixed: how far an injected prompt displaces the decoders' "
    "token times, plus a period."
)


def unfinished(profile: Profile) -> str | None:
    """A line for people when there was no time for all probes, else None: simulators then go on from those that there are."""
    told = profile.provenance
    if not told["probes_not_run"]:
        return None
    return (
        f"{len(told['probes_not_run'])} of {told['probes']} probes were not run in profile.budget={told['settings']['budget']:g} s: the "
        "step times of what they are about are guessed from the others"
    )


@dataclass(frozen=True, kw_only=True)
class Profiler:
    """What to probe, and for how long. The grids are cut to the engine's limits, and the limits become grid points themselves.

    The budget is kept to but for the last probe: all probes are run in turn, those that matter most first, until the next one would not
    fit any more or each was run `repeats` times. One of each kind is run whatever it takes. The points that tell whether the machine
    repeats itself come on top of the budget. A sequence has more context than its prompt by the time that the batch has stepped down to a
    small one.
    """

    budget: float  # s
    repeats: int  # most passes over all points
    prefill: Sequence[int]  # prompt lengths, tokens
    held_out_prefill: Sequence[int]  # further prompt lengths, kept out of every fit
    chunks: Sequence[int]  # lengths of a prompt's last chunk beyond the engine's token budget
    decode_batches: Sequence[int]  # sequences
    held_out_batches: Sequence[int]  # further batches, kept out of every fit
    decode_contexts: Sequence[int]  # prompt tokens of each sequence of a batch
    decode_tokens: int  # most batch x context: filling the KV cache takes time
    steps: int  # decode steps at each batch
    mixed_prompts: Sequence[int]  # tokens, injected beside sequences that decode
    held_out_mixed: Sequence[int]  # further injected prompts, kept out of every fit
    mixed_batches: Sequence[int]  # sequences that decode beside a prompt
    mixed_context: int  # prompt tokens of each of them
    repeatability: float = 0.05  # relative change from the profile's beginning to its end, above which the machine does not repeat itself
    max_prompt: int | None = None  # end of the grid, tokens; None: the engine's own limit
    max_batch: int | None = None  # end of the grids, sequences; None: the engine's own limit

    def __post_init__(self) -> None:
        for name in ("prefill", "chunks", "decode_batches", "decode_contexts", "mixed_prompts", "mixed_batches"):
            grid = getattr(self, name)
            if not grid or min(grid) < 1:
                raise ValueError(f"profile.{name} must hold one or more numbers >= 1, got {list(grid)}")
        for name, least in (("budget", 0), ("repeats", 1), ("steps", 6), ("decode_tokens", 1), ("mixed_context", 1)):
            if not getattr(self, name) >= least:
                raise ValueError(f"profile.{name} must be >= {least}, got {getattr(self, name)}")
        if not self.repeatability > 0:
            raise ValueError(f"profile.repeatability must be > 0, got {self.repeatability}")

    def measure(
        self,
        endpoint: Endpoint,
        client: Client,
        *,
        model: Mapping[str, Any],
        hardware: str,
        vocab_size: int | None = None,
        first_id: int = RESERVED,
        progress: Progress | None = None,
    ) -> Profile:
        """Probe the engine behind `endpoint`, of which nobody else must ask anything meanwhile.

        model: its config.json. vocab_size, first_id: the prompts' ids are in [first_id, vocab_size); None: the config.json's vocab_size.
        progress: called with (seconds gone, seconds of the budget).
        Raises EngineError, in one line, when probes fail or some kind of step could not be observed at all.
        """
        started, begin = datetime.now(UTC), time.monotonic()
        longest = self._longest(endpoint)
        size = vocab_size or int(model["vocab_size"])
        sender = ProbeSender(endpoint=endpoint, client=client, vocab_size=size, first_id=first_id, longest=longest)
        sender.send([ProbeRequest(prompt=sender.fresh(n), output=8) for n in (1, 16, min(512, longest - 8))])  # the first requests are slow
        probes = self._plan(endpoint.limits, longest)
        points = fixed_points(probes)
        beginning = timed(points, sender)
        seen = self._probe(probes, sender, time.monotonic(), progress)
        end = timed(points, sender)
        used = quiet(seen)
        frontend = FrontendCost.fit(o for s in used for o in s.observations)
        frame = _complete(samples(used, frontend), endpoint)
        return Profile(
            profile_id=f"{started:%Y%m%dT%H%M%S}-profile-{endpoint.system}",
            system=endpoint.system,
            version=endpoint.version,
            model=dict(model),
            hardware=hardware,
            limits=endpoint.limits,
            samples=frame,
            source=SOURCE,
            started_at=started.isoformat(),
            wall_s=time.monotonic() - begin,
            provenance={
                "settings": dataclasses.asdict(self),
                **diagnostics(len(probes), seen, frame, frontend),
                REPEATABILITY: repeatability(beginning, end, frontend, self.repeatability),
            },
        )

    def _probe(self, probes: Sequence[Probe], sender: ProbeSender, begin: float, progress: Progress | None) -> list[Sighting]:
        """Run the probes in turn, pass after pass, until none of them fits into the budget or all reached `repeats`."""
        took, runs, seen = [0.0] * len(probes), [0] * len(probes), []
        first = {kind: i for i, kind in reversed([(i, type(p)) for i, p in enumerate(probes)])}

        def run(i: int) -> bool:
            start = time.monotonic()
            seen.append(look(i, probes[i], runs[i], sender))
            took[i] = time.monotonic() - start
            runs[i] += 1
            if progress:
                progress(min(round(time.monotonic() - begin), round(self.budget)), round(self.budget))
            return bool(seen[-1].observations)

        for i in first.values():
            any(run(i) for _ in range(ATTEMPTS))  # until it sees something
        while True:
            left = begin + self.budget - time.monotonic()
            fitting = [i for i in range(len(probes)) if runs[i] < self.repeats and took[i] < left]
            if not fitting:
                return seen
            run(min(fitting, key=lambda i: runs[i]))

    def _longest(self, endpoint: Endpoint) -> int:
        """The longest prompt to probe, tokens; two more must fit behind it."""
        limits = endpoint.limits
        ends = [self.max_prompt, *(n - 2 for n in (limits.max_model_len, limits.kv_tokens) if n)]
        longest = min([n for n in ends if n], default=max(self.prefill))
        if longest < 2 * ROOM:
            where = f"{endpoint.system} at {endpoint.url}"
            raise EngineError(f"{where}: prompts of at most {longest} tokens are too short to profile it; allow {2 * ROOM} or more")
        return longest

    def _plan(self, limits: EngineLimits, longest: int) -> list[Probe]:
        """All probes, in the order of a pass: what every simulator needs comes first."""
        block = (limits.block_size or 1) if limits.prefix_caching else 0
        chunk = limits.max_num_batched_tokens or longest
        whole, later = list(self._prefills(min(chunk, longest))), list(self._chunks(chunk, longest, block))
        decodes, mixes = list(self._decodes(limits, longest)), list(self._mixes(limits, longest))
        too_long = [Refusal(prompts=[round(x * limits.max_model_len) for x in TOO_LONG])] if limits.max_model_len else []
        # a slow engine gets no further than the chunks in the time of conf/profile/cpu.yaml: two contexts of decodes, no more, come before
        # most of them; but nothing else tells a prompt's attention from what its tokens cost, so one comes first
        return [
            FrontendProbe(),
            *too_long,
            *whole,
            *decodes[:1],
            *mixes[-1:],
            *later[:1],
            *decodes[1:2],
            *later[1:],
            *decodes[2:],
            *mixes[:-1],
        ]

    def _prefills(self, whole: int) -> Iterator[PrefillProbe]:
        """Prompts computed in one step, of at most `whole` tokens; the front-end's probe does those of one token.

        Where the grid ends far below `whole`, its last length is doubled until it does not: a prompt's attention grows with the square of
        its length, and a straight line over a wide hole is far too high in the middle.
        """
        held_out = {n for n in self.held_out_prefill if 1 < n < whole} - set(self.prefill)
        grid = {n for n in self.prefill if n < whole}
        last = max(grid, default=1)
        while (last := 2 * last) < HOLE * whole:
            grid.add(last)
        for n in sorted((grid - {1}) | held_out | {whole}):
            yield PrefillProbe(new=n, held_out=n in held_out)

    def _chunks(self, chunk: int, longest: int, block: int) -> Iterator[PrefillProbe]:
        """Last chunks of prompts beyond the token budget `chunk`, at a context of 1, 2, 4, ... times the budget.

        Where no prompt is longer than the budget: chunks behind half of the longest, if the prefix cache can hold it.
        block: tokens in a block of the prefix cache; 0: it has none.
        """
        context = chunk if chunk < longest or not block else longest // 2
        while context < longest:
            if context > 2 * chunk and not block:
                yield PrefillProbe(new=chunk, context=context - chunk)  # what the differences at this context are taken from
            at = context // block * block if block else context
            for n in sorted({min(n, chunk, longest - at) for n in (*self.chunks, chunk)}):
                yield PrefillProbe(new=n, context=at, cached=bool(block))
            context *= 2

    def _decodes(self, limits: EngineLimits, longest: int) -> Iterator[DecodeProbe]:
        """One per context, the shortest first, with all batches that fit."""
        most = min([n for n in (self.max_batch, limits.max_num_seqs) if n], default=max(self.decode_batches))
        fitted = {b for b in (*self.decode_batches, most) if b <= most}
        held_out = frozenset(b for b in self.held_out_batches if b < most) - fitted
        for c in sorted({max(1, min(c, longest - ROOM)) for c in self.decode_contexts}):
            prompt = _one_past(c + 1, limits.block_size or 1) if limits.prefix_caching else c  # the cache then holds all but its last token
            room = longest - prompt
            deep = (self.steps + SLACK) * len(fitted | held_out)  # tokens that the last sequence generates, about
            fits = {
                b
                for b in fitted | held_out
                if b == 1 or (b * c <= self.decode_tokens and b * (c + min(room, deep)) <= (limits.kv_tokens or math.inf))
            }
            yield DecodeProbe(
                batches=sorted(fits, reverse=True)[-max(1, room // (2 * (self.steps + SLACK))) :],
                prompt=prompt,
                steps=self.steps,
                room=room,
                cached=limits.prefix_caching is True,
                # where no prefix cache holds the prompts, the first sequences decode while the last ones still wait for theirs
                behind=0.0 if limits.prefix_caching else c / (limits.max_num_batched_tokens or longest),
                held_out=held_out,
            )

    def _mixes(self, limits: EngineLimits, longest: int) -> Iterator[MixedProbe]:
        context = min(self.mixed_context, longest - ROOM)
        if limits.prefix_caching:
            context = _one_past(context + 1, limits.block_size or 1)
        most = min([n - 1 for n in (self.max_batch, limits.max_num_seqs) if n], default=max(self.mixed_batches))
        for b in sorted({min(b, most) for b in self.mixed_batches} - {0}):
            step = (limits.max_num_batched_tokens or longest) - b
            fitting = {n: False for n in self.mixed_prompts if n <= step} | {n: True for n in self.held_out_mixed if n <= step}
            if fitting:
                held_out = frozenset(n for n, held in fitting.items() if held)
                cached = limits.prefix_caching is True
                yield MixedProbe(batch=b, prompt=context, prompts=sorted(fitting), room=longest - context, cached=cached, held_out=held_out)


def _complete(frame: "pd.DataFrame", endpoint: Endpoint) -> "pd.DataFrame":
    """The samples. Raises EngineError when a kind of step was not seen at all."""
    missing = [kind for kind in ("frontend", "prefill", "decode", "mixed") if kind not in set(frame["kind"])]
    if missing:
        raise EngineError(f"{endpoint.system} at {endpoint.url}: no {' nor '.join(missing)} step could be observed; see the server's log")
    return frame


def _one_past(length: int, block: int) -> int:
    """The longest prompt within `length` of which whole blocks of the prefix cache hold all but the last token."""
    return (length - 1) // block * block + 1

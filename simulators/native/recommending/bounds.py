"""Bounds: how many replicas provably cannot meet an SLO, from the law of step times alone, before anything is simulated.

    seconds(work, steps) = steps * constants + linear . work + the longer of floor and (steps * g(tokens / steps) + the longer arms)

is the least that steps can take for some work in sum, whichever way it is divided: constants count at least `steps` times, the longer of
two sums is at most the sum of the longer ones, and g, taken as its convex hull from below, is least when steps are alike (Jensen).

A request alone takes its prompt's and its decodes' work. In a queue that is first come, first served, it has its first token when all
prompts before it have been computed, and all earlier requests have ended but for as many as run together (`max_num_seqs`), at best the
longest. Both hold whatever the scheduler does with what it may decide. MARGIN is for what the law's own interpolation adds.

A good request meets ttft and tpot, so it takes at most ttft + (tokens - 1) * tpot in all. The API server may hold a first token back, so
that the others seem to come faster; of both limits together that is not true.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.record import SLO
from simulators.native.latency.step_law import WORK as PARTS
from simulators.native.latency.step_law import Pieces, StepLaw
from simulators.native.planning.attainment import WARM_UP
from simulators.native.scheduling.scheduler import Limits
from simulators.native.sequence import prefill_pairs
from workloads.columns import columns_of
from workloads.trace import Trace

Floats = NDArray[np.float64]
MARGIN = 0.98
CHECKPOINTS = 24  # places in the queue at which its least work is summed up
MOST_REPLICAS = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What is provably not enough."""

    replicas: int | None  # the fewest that may do; None: however many there are, they will not
    ttft: bool  # whether too many requests miss ttft alone on an engine
    late: bool  # whether too many miss their whole time alone on an engine


def bound(trace: Trace, limits: Limits, law: StepLaw, slo: SLO, wanted: float, *, queue: bool) -> Bound:
    """The fewest replicas that may meet the SLO at the trace's rate, each given its share of the requests at random.

    wanted: the share of the requests after the warm-up that must be good. queue: whether the engine is one queue, first come, first served.
    """
    least = _Least(trace, limits, law)
    alone, ttft, late = least.possible(slo, None)
    counted = slice(int(WARM_UP * len(alone)), None)
    if np.mean(alone[counted]) < wanted:
        return Bound(replicas=None, ttft=bool(np.mean(ttft[counted]) < wanted), late=bool(np.mean(late[counted]) < wanted))
    if not queue:
        return Bound(replicas=1, ttft=False, late=False)
    finished, low, high = least.queue(), 0, 1
    while high < MOST_REPLICAS and np.mean(least.possible(slo, finished, replicas=high)[0][counted]) < wanted:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        enough = np.mean(least.possible(slo, finished, replicas=middle)[0][counted]) >= wanted
        low, high = (low, middle) if enough else (middle, high)
    return Bound(replicas=high, ttft=False, late=False)


class _Least:
    """The least time that the requests of a trace take, s."""

    def __init__(self, trace: Trace, limits: Limits, law: StepLaw) -> None:
        asked = columns_of(trace)
        self._limits, self._law, self._arrival = limits, law, asked.arrival - asked.arrival[0]
        self._outputs = asked.output_tokens.astype(np.float64)
        self._served = asked.input_tokens + asked.output_tokens <= limits.max_model_len
        self._shared = bool(trace.block_size and limits.prefix_caching)  # of a prompt perhaps its last token only is computed
        prompts = np.ones(len(trace)) if self._shared else asked.input_tokens.astype(np.float64)
        self._drafts = 1 + limits.speculation.num_speculative_tokens
        self._prompts, self._chunks = _prompt_works(prompts, limits.max_num_batched_tokens)
        self._decodes = _decode_works(asked.input_tokens, self._outputs, self._drafts)
        self._hull = _hull(law.pieces)
        steps = (self._outputs - 1) / self._drafts
        self._ttft = MARGIN * self._seconds(self._prompts, self._chunks)
        self._rest = MARGIN * np.where(steps > 0, self._seconds(self._decodes, np.maximum(steps, 1e-9)), 0.0)

    def possible(self, slo: SLO, finished: Floats | None, *, replicas: int = 1) -> tuple[Any, Any, Any]:
        """Which requests may be good, which of them by ttft, and which by their whole time.

        finished: of each, the least time at which the queue can have come to it; None: it is alone.
        """
        ttft = self._ttft if finished is None else np.maximum(self._ttft, finished - replicas * self._arrival)
        whole: Any = np.inf if slo.e2e is None else slo.e2e
        if slo.ttft is not None and slo.tpot is not None:
            whole = np.minimum(whole, slo.ttft + (self._outputs - 1) * slo.tpot)
        first = self._served & (ttft <= (np.inf if slo.ttft is None else slo.ttft))
        late = self._served & (ttft + self._rest <= whole)
        return first & late, first, late

    def queue(self) -> Floats:
        """When the engine can have come to each request at the earliest, s after the first arrival."""
        number, most = len(self._outputs), self._limits.max_num_seqs
        prompts = np.cumsum(np.where(self._served[:, None], self._prompts, 0.0), axis=0)
        found = np.zeros(number)
        for place in np.unique(np.linspace(0, number - 1, CHECKPOINTS + 1).astype(int)[1:]):
            before = np.flatnonzero(self._served[:place])
            if len(before) <= most:
                decodes = np.zeros(len(PARTS))
            else:  # those that may be unfinished are the ones with the most work
                ended = before[np.argpartition(self._rest[before], len(before) - most)[: len(before) - most]]
                decodes = self._decodes[ended].sum(axis=0)
            work = prompts[place - 1] + decodes
            found[place:] = MARGIN * self._sum_seconds(work)
        return found / self._limits.pipeline_parallel_size

    def _sum_seconds(self, work: Floats) -> float:
        """Of all this work on one engine."""
        new, decodes, context = (work[PARTS.index(name)] for name in ("new_tokens", "decodes", "decode_context"))
        steps = max(new / self._limits.max_num_batched_tokens, decodes / self._limits.max_num_seqs, 1.0)
        if not self._shared:
            steps = max(steps, context / self._limits.context_tokens)  # what is read in a step is held in it
        return float(self._seconds(work[None, :], np.array([steps]))[0])

    def _seconds(self, work: Floats, steps: Floats) -> Floats:
        """See the module's docstring. work: (rows, parts of WORK). steps: of each row, at least."""
        new = work[:, PARTS.index("new_tokens")]
        device = steps * np.interp(new / steps, *self._hull)
        for one, other in self._law.terms:
            device = device + np.maximum(_of(one, work, steps), _of(other, work, steps))
        total: Floats = _of(self._law.linear, work, steps) + np.maximum(device, _of(self._law.floor, work, steps))
        return total


def _of(rates: Any, work: Floats, steps: Floats) -> Floats:
    found: Floats = rates[0] * steps + work @ np.asarray(rates[1:])
    return found


def _prompt_works(prompts: Floats, budget: int) -> tuple[Floats, Floats]:
    """The work of prompts of so many tokens, and the fewest steps that it takes. What attention with a window does is left out."""
    chunks = np.ceil(prompts / budget)
    return _works(
        new_tokens=prompts,
        sequences=chunks,
        prefill_tokens=prompts,
        prefill_context=budget * chunks * (chunks - 1) / 2,
        prefill_pairs=prefill_pairs(0, prompts),
        prompt_steps=chunks,
    ), chunks


def _decode_works(prompts: Any, outputs: Floats, drafts: int) -> Floats:
    """The work of all tokens after the first, where every draft is accepted."""
    steps = (outputs - 1) / drafts
    return _works(new_tokens=outputs - 1, sequences=steps, decodes=steps, decode_context=steps * (prompts + (outputs - 1 - drafts) / 2))


def _works(**parts: Any) -> Floats:
    rows = np.zeros((len(parts["new_tokens"]), len(PARTS)))
    for name, values in parts.items():
        rows[:, PARTS.index(name)] = values
    return np.maximum(rows, 0.0)


def _hull(pieces: Pieces) -> tuple[Floats, Floats]:
    """The lower convex hull of g as points: tokens, and seconds. Beyond the last one it stays as it is there."""
    ordered = pieces[::-1]
    last = ordered[-1]
    far = 16 * max(last[0], 1.0)
    points = [*((start, seconds) for start, seconds, _ in ordered), (far, last[1] + last[2] * (far - last[0]))]
    hull: list[tuple[float, float]] = []
    for point in points:
        while len(hull) > 1 and _turns_right(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    tokens, seconds = np.array(hull).T
    return tokens, seconds


def _turns_right(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])

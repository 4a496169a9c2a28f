"""Whether a run is saturated, from when on, and what it then serves: one rule for engines and simulators, from records alone.

The number of requests that wait for their first token, Q(t), fluctuates about a level as long as the engine keeps up, and grows where it
does not. (The number in the system grows with the batch long before that: it was tried and called every third run at 60 % of capacity
saturated.) A two-phase regression (Hinkley 1971, doi:10.1080/01621459.1971.10482337) of Q, seen at each arrival, on time finds the change
point c:

    Q(t) = level + slope * max(0, t - c)        least squares over c (an arrival), level and slope >= 0

The run is on the far side of the knee when it falls behind from there on beyond doubt: the growth slope * (T - c) up to the last arrival T
is more than GROWTH of all requests, more than two standard deviations of Q about the line, and more than two of the difference of two
looks at a queue that keeps up (sqrt(2 level), as of the Poisson number in an M/G/infinity system); at least LEAST requests and a tenth
of all arrive behind c. Those are its saturated part.

How often it is right, on a simulated batching queue of 32 slots with Poisson arrivals, 15 runs each: of 600 requests, none is called
saturated at 30, 60 and 80 % of capacity, 1 at 95 %, 14 at 110 %, 15 at 130 %; of 200 requests 0, 0, 0, 2, 10, 15. With bursty arrivals
(gamma gaps of shape 0.3) of 600: 0, 0, 1, 4, 13, 15. A short run tells little: of 100 requests at 110 % 4 are; of fewer than 2 * LEAST
it is unknown. And a system without a limit on sequences has no queue: it takes in everyone and slows down for all. Of 12 such runs of 600
requests none is called saturated at 110 %, 3 at 130 %, all at 160 %; the number in the system was no better a sign.

Capacity: requests/s served in the saturated part: output tokens produced from c (plus a median request's life, as slots fill first, where
that leaves half of the part) to T, over the mean request's tokens. Both sides of a comparison are asked over the same seconds.
"""

from dataclasses import dataclass

import numpy as np

from analysis.stats import Values, known

GROWTH = 0.03
LEAST = 20
CANDIDATES = 200  # arrivals that are tried as change points


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturation:
    """See the table `saturation` of schema.sql. change_point: s since the trace's start, None: the run keeps up to its end, or is too short
    to tell (saturated None).
    """

    change_point: float | None
    requests: int | None
    growth: float | None
    saturated: bool | None


def saturation(arrivals: Values, first_tokens: Values) -> Saturation:
    """Find the saturated part of a run. arrivals: of its requests, ascending, s; first_tokens: of each, NaN where it failed (left out).

    It is unknown (saturated is None) for fewer than 2 * LEAST requests with a first token, and for requests that arrive all at once.
    """
    begun = np.isfinite(first_tokens)
    times = arrivals[begun]
    n = len(times)
    if n < 2 * LEAST or np.ptp(times) == 0:
        return Saturation(change_point=None, requests=None, growth=None, saturated=None)
    waiting = (np.arange(1, n + 1) - np.searchsorted(np.sort(first_tokens[begun]), times, side="right")).astype(np.float64)
    change, level, growth = _two_phases(times, waiting)
    line = level + growth * np.maximum(0.0, times - change) / (times[-1] - change)
    behind = int((times >= change).sum())
    doubt = max(GROWTH * n, 2 * float((waiting - line).std()), 2 * float(np.sqrt(2 * max(level, 1.0))))
    if growth <= doubt or behind < max(LEAST, 0.1 * n):
        return Saturation(change_point=None, requests=0, growth=None, saturated=False)
    return Saturation(change_point=change, requests=behind, growth=growth, saturated=True)


def _two_phases(times: Values, waiting: Values) -> tuple[float, float, float]:
    """(change point, level, growth up to the last time) of the best fit."""
    n = len(times)
    candidates = np.unique(times[np.unique(np.linspace(0, n - 1, min(n, CANDIDATES)).astype(np.intp))])
    candidates = candidates[candidates < times[-1]]
    ramps = np.maximum(0.0, times - candidates[:, None])  # [j, i]: time since candidate j at arrival i
    centred = ramps - ramps.mean(axis=1, keepdims=True)
    spread = (centred**2).sum(axis=1)
    slopes = centred @ (waiting - waiting.mean()) / spread
    best = int(np.argmax(np.where(slopes > 0, slopes**2 * spread, 0.0)))
    slope = max(0.0, float(slopes[best]))
    level = float(waiting.mean() - slope * ramps[best].mean())
    return float(candidates[best]), level, slope * float(times[-1] - candidates[best])


def capacity_window(change_point: float, arrivals: Values, finished: Values) -> tuple[float, float]:
    """(start, end) in s of the stretch over which a saturated run's capacity is taken."""
    end = float(arrivals[-1])
    life = known(float(np.median((finished - arrivals)[np.isfinite(finished)])))
    start = change_point + (life or 0.0)
    return (start, end) if end - start >= 0.5 * (end - change_point) else (change_point, end)

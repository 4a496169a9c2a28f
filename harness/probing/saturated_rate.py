"""What the records of a saturated engine say about the rate it can sustain. Pure functions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results.record import RequestRecord
from workloads.trace import Request

Floats = NDArray[np.float64]

MOST_ABOVE_MEAN = 4  # times the mean rate since second 0, which the filling lowers: a guess beyond comes from a stretch too short to tell


def saturated(records: Sequence[RequestRecord], initial: int, least: int) -> tuple[float, float]:
    """(start, end) of the stretch in which the engine is full and requests wait, s; end <= start when there is none.

    start: all of the first `initial` records have their first token (inf: they never had). end: fewer than `least` requests are sent and
    without a first token, or the last first token of all, where the replay was cut short before that.
    """
    start = max(math.inf if r.first_token is None else r.first_token for r in records[:initial])
    sent = np.sort([r.sent for r in records if r.sent is not None])
    begun = np.sort([r.first_token for r in records if r.first_token is not None])
    waiting = np.searchsorted(sent, begun, side="right") - np.arange(1, len(begun) + 1)
    short = begun[(begun > start) & (waiting < least)]
    return start, float(short[0] if len(short) else begun[-1]) if len(begun) else 0.0


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Work done in equal batches of time: `prompt` and `output` tokens in each of `seconds`.

    A prompt counts when its first token comes out, and brings that token; `output` are the others.
    """

    seconds: float
    prompt: Floats
    output: Floats

    @classmethod
    def of(cls, records: Sequence[RequestRecord], requests: Sequence[Request], window: tuple[float, float], count: int) -> "Batches":
        """The work that the records show in the window, in `count` batches; requests[i] is what records[i] answers."""
        edges = np.linspace(*window, count + 1)
        # the prompt whose end begins the window was computed before it
        begun = [r.first_token if r.first_token is not None and r.first_token > window[0] else math.inf for r in records]
        later = [t for r in records for t in (r.token_times or ())[1:]]
        prompt, _ = np.histogram(begun, edges, weights=[r.input_tokens for r in requests])
        output, _ = np.histogram(later, edges)
        return cls(seconds=(window[1] - window[0]) / count, prompt=prompt.astype(np.float64), output=output.astype(np.float64))


def weights(prompt: Floats, output: Floats, seconds: float) -> tuple[float, float]:
    """Seconds of work per prompt token and per output token: the non-negative least squares of seconds = a * prompt + b * output."""
    from scipy.optimize import nnls  # here: scipy takes long to import, and few commands come this far

    (per_prompt, per_output), _ = nnls(np.stack([prompt, output], axis=1), np.full(len(prompt), seconds))
    return float(per_prompt), float(per_output)


def request_rate(prompt: Floats, output: Floats, seconds: float, mean_prompt: float, mean_output: float) -> float:
    """Requests of mean lengths per second whose work is that of the batches: their work over the time and over a mean request's work."""
    a, b = weights(prompt, output, seconds)
    done = a * prompt.sum() + b * output.sum()
    if done == 0:  # nothing came out in any of them: there is no work by which a request's could be told
        return 0.0
    return float(done / (seconds * len(prompt)) / (a * mean_prompt + b * mean_output))


def interval(
    batches: Batches, mean_prompt: float, mean_output: float, rng: np.random.Generator, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap over the batches (weights fitted anew each time) of `request_rate`."""
    draws = []
    for _ in range(400):
        pick = rng.integers(0, len(batches.prompt), len(batches.prompt))
        draws.append(request_rate(batches.prompt[pick], batches.output[pick], batches.seconds, mean_prompt, mean_output))
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_running(records: Sequence[RequestRecord], window: tuple[float, float]) -> float:
    """Time-average over the window of the requests between their first and their last token."""
    start, end = window
    held = [min(r.finished or 0.0, end) - max(r.first_token or 0.0, start) for r in records]
    return float(sum(h for h in held if h > 0) / (end - start))


def plausible(rate: float, records: Sequence[RequestRecord]) -> float:
    """The rate, but at most `MOST_ABOVE_MEAN` times that at which all these requests got their first tokens since second 0.

    Where a machine stood still, what it had computed by then comes in one moment, and a stretch of that moment shows no rate at all.
    """
    begun = [r.first_token for r in records if r.first_token is not None]
    return min(rate, MOST_ABOVE_MEAN * len(begun) / max(begun)) if begun and max(begun) > 0 else rate

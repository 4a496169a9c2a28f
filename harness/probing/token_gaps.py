"""From token times to step times: what can be read off the streams of sequences that an engine batches together. Pure functions.

A client sees a step's end as a token, some delay later: the delay is never negative, mostly constant, at times long (a server process
that was held up hands over several steps' tokens at once). A constant delay falls out of every difference. Of tokens handed over at
once only the last one says when its step ended, so the others are left out; what is left of long delays meets medians: Theil-Sen's slope
stands up to 29 % of outliers (Sen 1968, doi:10.1080/01621459.1968.10480934).
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from results.record import RequestRecord

Times = NDArray[np.float64]
FLANK = 8  # decode steps looked at on either side of a mixed step
BLOCK = 4  # decode steps that one sample of a stretch is taken from
BUNCHED = 0.2  # of the mean gap: tokens closer than that came in one bunch


def token_times(record: RequestRecord) -> Times:
    """The record's token times as an array, s."""
    return np.asarray(record.token_times or (), dtype=np.float64)


def together(records: Sequence[RequestRecord]) -> list[Times]:
    """Token times of each record within the stretch in which all of them decode: from the last first token to the first finish."""
    times = [token_times(r) for r in records]
    start, end = max(t[0] for t in times), min(t[-1] for t in times)
    return [t[(t >= start) & (t <= end)] for t in times]


def stairs(records: Sequence[RequestRecord], batch: int) -> list[Times]:
    """Token times of the first `batch` records while they decode and no other does: all of them have started and none is finished, all
    others are; where there are others, from the second step on (asynchronous scheduling lets go of a sequence a step late).

    [] when there is no such stretch.
    """
    times, others = [token_times(r) for r in records[:batch]], [token_times(r) for r in records[batch:]]
    start, end = max(t[0] for t in times), min(t[-1] for t in times)
    alone = max([start, *(t[-1] for t in others)])
    within = [t[(t >= alone) & (t <= end)] for t in times]
    if alone > start:
        within = [t[1:] for t in within]
    return within if all(len(t) for t in within) else []


def on_time(times: Times, low: int = 0, high: int | None = None) -> NDArray[np.intp]:
    """Which of the tokens low to high - 1 came when their step ended: those that no other follows at once.

    At once: in less than a fraction of the mean gap between these tokens. The token behind them is looked at, too.
    """
    high = len(times) if high is None else high
    gaps = np.diff(times[low : high + 1])
    inside = gaps[: high - low - 1]
    at_once = gaps <= BUNCHED * inside.mean() if len(inside) else np.zeros(len(gaps), dtype=bool)
    return low + np.flatnonzero(~np.append(at_once, False)[: high - low])


def usual_gap(streams: Sequence[Times]) -> float:
    """Seconds between two tokens, mostly: the median gap, or where most tokens came in bunches the mean; 0 when all came at once."""
    gaps = np.concatenate([np.diff(times) for times in streams])
    return float(np.median(gaps)) or float(np.mean(gaps))


def slope(times: Times, kept: NDArray[np.intp]) -> float | None:
    """Seconds per token, from the tokens that `kept` names; None when they are fewer than 3."""
    from scipy.stats import theilslopes  # here: scipy takes long to import, and few commands come this far

    return float(theilslopes(times[kept], kept)[0]) if len(kept) >= 3 else None


def period(stretch: Sequence[Times]) -> float | None:
    """Seconds per step of sequences that decode together: the median of their slopes; None when none has one."""
    slopes = [s for s in (slope(times, on_time(times)) for times in stretch) if s is not None]
    return float(np.median(slopes)) if slopes else None


def blocks(stretch: Sequence[Times]) -> list[float]:
    """Seconds per step, once for each BLOCK steps or a few more of sequences that decode together; fewer where tokens came in bunches."""
    steps = min(len(t) for t in stretch) - 1
    ends = np.linspace(0, steps, max(1, steps // BLOCK) + 1).round().astype(int)
    found = [period([t[low : high + 1] for t in stretch]) for low, high in itertools.pairwise(ends)]
    return [seconds for seconds in found if seconds is not None]


def handover(stretch: Sequence[Times], step: float) -> float | None:
    """Seconds that one more token of the same step takes to come through: how far the sequences lie apart, whole steps taken off."""
    steps = min(len(t) for t in stretch)
    if len(stretch) < 2 or steps < 1:
        return None
    lags = [t[:steps] - stretch[0][:steps] for t in stretch]
    apart = [float(np.median(lag - step * np.round(lag / step))) for lag in lags]
    return (max(apart) - min(apart)) / (len(stretch) - 1)


def mixed_step(decoders: Sequence[Times], ends: Sequence[float], which: int) -> float | None:
    """Seconds of the step in which a prompt was computed beside the decoders, whose token times are given.

    ends: first-token times of all prompts so sent, ascending; `which` is the one asked for. The decoders' tokens lie on one line
    before that step and on another of the same slope after it; the step lasts the lines' distance plus one period. Where exactly the
    step lies among the tokens does not matter, so that a hand-over of several steps at once does no harm.
    None: too few plain decode steps on either side.
    """
    found = []
    for times in decoders:
        marks = [int(np.argmin(np.abs(times - end))) for end in ends]
        mark = marks[which]
        low = max([0, mark - FLANK, *(m for m in marks if m < mark)])
        high = min([len(times), mark + FLANK, *(m for m in marks if m > mark)])
        before, after = on_time(times, low, mark), on_time(times, mark, high)
        slopes = [s for s in (slope(times, before), slope(times, after)) if s is not None]
        if slopes and len(before) and len(after):
            step = float(np.mean(slopes))
            found.append(np.median(times[after] - step * after) - np.median(times[before] - step * before) + step)
    return float(np.median(found)) if found else None

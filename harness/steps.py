"""From token times to step times: what can be read off the streams of sequences that an engine batches together. Pure functions.

A client sees a step's end as a token, some delay later: the delay is never negative, mostly constant, at times long (a busy server
process hands over several steps' tokens at once). A constant delay falls out of every difference; against the long ones, slopes and
levels are medians: Theil-Sen's slope stands up to 29 % of outliers (Sen 1968, doi:10.1080/01621459.1968.10480934).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import theilslopes

from results.record import RequestRecord

Times = NDArray[np.float64]
FLANK = 8  # decode steps looked at on either side of a mixed step


def token_times(record: RequestRecord) -> Times:
    """The record's token times as an array, s."""
    return np.asarray(record.token_times or (), dtype=np.float64)


def together(records: Sequence[RequestRecord]) -> list[Times]:
    """Token times of each record within the stretch in which all of them decode: from the last first token to the first finish."""
    times = [token_times(r) for r in records]
    start, end = max(t[0] for t in times), min(t[-1] for t in times)
    return [t[(t >= start) & (t <= end)] for t in times]


def period(stretch: Sequence[Times]) -> float | None:
    """Seconds per step of sequences that decode together: the median of their slopes; None when no sequence has 3 tokens."""
    slopes = [theilslopes(t)[0] for t in stretch if len(t) >= 3]
    return float(np.median(slopes)) if slopes else None


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
        before, after = np.arange(low, mark), np.arange(mark, high)
        if min(len(before), len(after)) < 3:
            continue
        slope = float(np.median([theilslopes(times[part])[0] for part in (before, after)]))
        found.append(np.median(times[after] - slope * after) - np.median(times[before] - slope * before) + slope)
    return float(np.median(found)) if found else None
